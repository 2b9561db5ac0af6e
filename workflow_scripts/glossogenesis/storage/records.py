"""Records of JSON files, checked by the types of a dataclass: a manifest is a file like any other.

What a manifest says is acted on: files that it names are opened and, by `purge`, deleted. So names
of files are checked too: they stay beside the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints


class _Dataclass(Protocol):
    """Any dataclass, as type checkers know one."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Record = TypeVar("Record", bound=_Dataclass)

_LARGEST = 2**63


def record_of(
    kind: type[Record], content: Any, *, given: Mapping[str, Any] | None = None
) -> Record:
    """Make a dataclass of the content of a JSON file, and of those that it holds.

    `given` are fields that the file does not have. TypeError where the content is no object, a key
    is missing or unknown, or a value is of another type than its field.
    """
    given = given or {}
    if not isinstance(content, dict):
        raise TypeError(f"{kind.__name__}: {content!r:.40} is no object")
    types = _types_of(kind)
    wanted = {field.name for field in fields(kind) if field.name not in given}
    needed = {
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    }
    if unlike := (content.keys() - wanted) | (needed - content.keys() - given.keys()):
        raise TypeError(f"{kind.__name__}: unknown or missing keys {sorted(unlike)!r:.80}")
    return kind(**given, **{key: _value(types[key], value, key) for key, value in content.items()})


def is_plain_name(name: Any) -> bool:
    """Tell whether a text names a file of the same folder, and no other."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and name.isprintable()
        and not any(character in name for character in "/\\")
    )


def plain_name(name: Any) -> str:
    """Return the name of a file of the same folder; TypeError where it leads elsewhere."""
    if not is_plain_name(name):
        raise TypeError(f"{name!r:.80} is no name of a file beside this one")
    return str(name)


@cache
def _types_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(kind: Any, value: Any, key: str) -> Any:
    """Return a value as its field's type has it; lists become tuples where that is a tuple."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        (kind,) = (member for member in inner if member is not NoneType)
        return _value(kind, value, key)
    if is_dataclass(kind) and isinstance(kind, type):
        return record_of(kind, value)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(inner[0], item, key) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return {name: _value(inner[1], item, f"{key}.{name}") for name, item in value.items()}
    if kind is float and _is_count(value):
        return float(value)
    if (kind is int and _is_count(value)) or (kind is not int and _is_a(kind, value)):
        return value
    raise TypeError(f"{key}: {value!r:.40} is of another type")


def _is_a(kind: Any, value: Any) -> bool:
    return kind in (str, bool, float) and type(value) is kind


def _is_count(value: Any) -> bool:
    return type(value) is int and abs(value) < _LARGEST
