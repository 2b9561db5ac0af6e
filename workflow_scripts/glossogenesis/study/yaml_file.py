"""What a refused value of a study means to the person who wrote it: one line with key and mend."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from glossogenesis.study.section import LANGUAGE_PATTERN, NAME_PATTERN, Section

Location = tuple[int | str, ...]

MEANING_OF_PATTERN = {
    NAME_PATTERN: (
        "names become parts of paths: begin with a letter or digit and use only letters, digits "
        "and `_ . + -`"
    ),
    LANGUAGE_PATTERN: (
        "language codes are letters and digits that begin with a letter, in parts with `-` or `_` "
        "between them, such as `es`, `zh-Hans` or `zho_Hans`"
    ),
}

LONGEST_SHOWN = 60


def first_problem(error: ValidationError, content: Mapping[str, Any], root: type[Section]) -> str:
    """Say what is wrong first with a study's content: key, problem and mend."""
    problems = [(_written_location(item, content), item) for item in error.errors()]
    location, first = problems[0]
    # A value of several possible types is refused once for each: the deepest place is meant.
    location, first = max(
        (pair for pair in problems if pair[0][: len(location)] == location),
        key=lambda pair: len(pair[0]),
    )
    same = [item for place, item in problems if place == location]
    others = len({place for place, _ in problems}) - 1
    more = f" ({others} more)" if others else ""
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        return f"unknown key `{key}`{_suggestion(location, root)}{more}"
    if first["type"] == "missing":
        return f"key `{key}` is missing; see config.yaml for its meaning{more}"
    reasons = dict.fromkeys(problem_of(item) for item in same)
    return f"`{key}`: {', or '.join(reasons)}{_shown(first)}{more}"


def problem_of(error: ErrorDetails) -> str:
    """Say what is wrong with one value, in words of YAML and sheets rather than of Python."""
    kind = error["type"]
    if kind == "string_pattern_mismatch":
        return MEANING_OF_PATTERN.get(error["ctx"]["pattern"], error["msg"])
    if kind == "union_tag_not_found":
        return f"key {error['ctx']['discriminator']} is missing"
    if isinstance(error["input"], bool) and error["loc"][-1] == "[key]":
        return "YAML reads unquoted no, off, yes and on as truth values; write the code in quotes"
    message = error["msg"].removeprefix("Value error, ")
    return message.replace("valid tuple", "list").replace("valid dictionary", "mapping of keys")


def _shown(error: ErrorDetails) -> str:
    """Quote the refused value where it is a short one."""
    # Only then: to write out a list or mapping whose parts are aliases can take for ever.
    if not isinstance(error["input"], str | int | float):
        return ""
    shown = repr(error["input"])
    return f" (got {shown})" if len(shown) <= LONGEST_SHOWN else ""


def _written_location(error: ErrorDetails, content: Any) -> Location:
    """Return an error's place by the keys that stand in the file.

    pydantic adds marks of its own for the members of a union and for keys; they are left out.
    """
    *way, last = error["loc"] or ("",)
    location: list[int | str] = []
    for part in (*way, last):
        if _holds(content, part):
            # A key is shown as it was read: YAML's `no` is the key False, which equals 0.
            is_key = isinstance(content, Mapping)
            location.append(next(key for key in content if key == part) if is_key else part)
            content = content[part]
        elif part is last and error["type"] == "missing":
            location.append(part)
    return tuple(location)


def _holds(content: Any, part: int | str) -> bool:
    """Tell whether a part of a location is a key or an index of some content of the file."""
    if isinstance(content, Mapping):
        return part in content
    is_list = isinstance(content, Sequence) and not isinstance(content, str)
    return is_list and isinstance(part, int) and part < len(content)


def _suggestion(location: Location, root: type[Section]) -> str:
    """Name the known key nearest to an unknown one, or all."""
    known = sorted({key for section in _sections_at(location[:-1], root) for key in section})
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known keys are {', '.join(known)}" if known else "; remove it"


def _sections_at(location: Location, root: type[Section]) -> Iterator[list[str]]:
    """Yield the keys of every kind of section that may stand at a place of the study."""
    kinds: list[Any] = [root]
    for part in location:
        kinds = [inner for kind in kinds for inner in _inside(kind, str(part))]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Section):
            yield list(kind.model_fields)


def _inside(kind: Any, key: str) -> Iterator[Any]:
    """Yield the types that a key of a section, or an item of a collection, may have."""
    if isinstance(kind, type) and issubclass(kind, Section):
        if key in kind.model_fields:
            yield from _members(kind.model_fields[key].annotation)
    elif get_origin(kind) in (dict, tuple):
        yield from _members(get_args(kind)[-1 if get_origin(kind) is dict else 0])


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, without annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation
