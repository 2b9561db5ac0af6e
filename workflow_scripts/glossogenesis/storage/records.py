"""Records of JSON files, checked by the types of a dataclass: a manifest is a file like any other.

What a manifest says is acted on: files that it names are opened and, by `purge`, deleted. So names
of files are checked too: they stay beside the manifest.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

Record = TypeVar("Record")


def record_of(kind: type[Record], content: Any) -> Record:
    """Make a dataclass, and those that it holds, of the content of a JSON file.

    ValueError names the first key that is missing, unknown or of another type than its field.
    """
    try:
        adapter = _adapter(kind)  # type: ignore[arg-type]  # a type is hashable
        record: Record = adapter.validate_json(json.dumps(content), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{key!r:.80}: {first['msg']}") from None
    return record


def plain_name(name: Any) -> str:
    """Return the name of a file of the same folder; ValueError where it leads elsewhere."""
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or not name.isprintable()
        or any(character in name for character in "/\\")
    ):
        raise ValueError(f"{name!r:.80} is no name of a file beside this one")
    return name


PlainName = Annotated[str, AfterValidator(plain_name)]
"""The name of a file beside the record that names it."""


Count = Annotated[int, Field(ge=0, lt=2**63)]
"""How many of something there are, as an array can count them."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
