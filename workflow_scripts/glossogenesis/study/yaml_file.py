"""Files of a study: read within limits, merged, and refused in one line that names the key.

YAML's aliases let a short file stand for more than any memory holds, and its numbers have no end.
Both are found before anything is made of them.

Snakemake merges the files of `--configfile a.yaml b.yaml` before anyone sees them. Here the paths
that a later file names are written again in the merged configuration, so that they count from the
first file's folder, as all others do.
"""

from __future__ import annotations

import difflib
import math
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import read_text
from glossogenesis.study.section import (
    LANGUAGE_PATTERN,
    NAME_PATTERN,
    IsPath,
    IsSource,
    Section,
    is_local,
    stays_in_place,
)

MOST_VALUES = 1_000_000
"""Values of a study file, with what aliases repeat counted as often as it is repeated."""

LONGEST_FILE = 1_000_000
"""Characters of a study file; a thousand times what the shipped ones have."""

LARGEST_NUMBER = 2**63 - 1
"""Beyond it neither tables nor seeds hold a number."""

KeyPath = tuple[Any, ...]

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


def load_yaml(text: str, file: Path) -> Any:
    """Return the content of a YAML text, of plain values alone.

    StudyError where it is too large; yaml.YAMLError, ValueError or RecursionError where it is not
    YAML.
    """
    if len(text) > LONGEST_FILE:
        raise StudyError(
            f"{file}: {len(text):,} characters, more than a study has; a list of many checkpoints "
            "belongs into the sheet"
        )
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Before values are made: merging keys would already repeat what aliases stand for.
        if _expanded_size(node, {}) > MOST_VALUES:
            raise StudyError(
                f"{file}: its aliases (`*name`) stand for more than {MOST_VALUES:,} values; write "
                "out what is meant"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def check_numbers(content: Mapping[str, Any], file: Path) -> None:
    """StudyError where a number, be it a key, is larger than anything that counts."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, int | float) and LARGEST_NUMBER < abs(value) < math.inf:
            raise StudyError(
                f"{file}: `{key}` is a number beyond {LARGEST_NUMBER} (about 9.2e18); write a "
                "smaller one"
            )
        if not isinstance(value, Mapping | list) or id(value) in seen:
            continue
        seen.add(id(value))
        inside = list(value.items() if isinstance(value, Mapping) else enumerate(value))
        waiting += [(key, name) for name, _ in inside if isinstance(value, Mapping)]
        waiting += [(_joined(key, name), item) for name, item in inside]


def _joined(key: str, name: Any) -> str:
    shown = str(name) if isinstance(name, str) or _is_small(name) else "…"
    return f"{key}.{shown}" if key else shown


def _is_small(name: Any) -> bool:
    return isinstance(name, int) and abs(name) <= LARGEST_NUMBER


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values that a node stands for, without end where it holds itself."""
    if id(node) in sizes:
        return sizes[id(node)]
    # Met again before its size is known, a node is inside itself.
    sizes[id(node)] = MOST_VALUES + 1
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_expanded_size(child, sizes) for child in children)
    sizes[id(node)] = size
    return size


@dataclass(frozen=True)
class MergedStudy:
    """The content of a study of several files, whose paths count from the first."""

    content: dict[str, Any]
    file: Path
    """The first file."""
    sheet_folder: Path
    """The folder that the sources in the sheet count from: of the file that names the sheet."""


def merged_study(
    merged: Mapping[str, Any], files: Sequence[Path], root: type[Section]
) -> MergedStudy:
    """Return a configuration that Snakemake merged from files, with all paths from the first's.

    `root` is the section that describes a whole study. Values that the command line set in place of
    a file's count from the first file as well.
    """
    content: dict[str, Any] = deepcopy(dict(merged))
    first, *others = files
    sheet_folder = first.parent
    named: dict[KeyPath, tuple[Path, str]] = {}
    for file in others:
        for location, written in _paths(_content_of(file), root, (), ()):
            named[location] = (file.parent, written)
    for location, (folder, written) in named.items():
        place = _place_of(content, location)
        if place is None or place[location[-1]] != written:
            continue
        place[location[-1]] = path_from(first.parent, folder, written)
        if location == ("checkpoints",):
            sheet_folder = folder
    return MergedStudy(content, first, sheet_folder)


def path_from(start: Path, folder: Path, written: str) -> str:
    """Return a path that counts from `folder` as one that counts from `start`."""
    if written.startswith(("/", "~")):
        return written
    return os.path.join(".", os.path.relpath(folder / written, start))  # noqa: PTH118  # keeps the dot


def _content_of(file: Path) -> Any:
    try:
        return load_yaml(read_text(file, "study file", "name another"), file)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{file}: not valid YAML ({error}); correct it") from None


def _place_of(content: Any, location: KeyPath) -> Any:
    """Return the mapping or list that holds a location, None where there is none."""
    for part in location[:-1]:
        if (isinstance(content, Mapping) and part in content) or (
            isinstance(content, list) and isinstance(part, int) and part < len(content)
        ):
            content = content[part]
        else:
            return None
    last = location[-1]
    if isinstance(content, list):
        return content if isinstance(last, int) and last < len(content) else None
    return content if isinstance(content, Mapping) and last in content else None


def _paths(
    value: Any, kind: Any, metadata: Sequence[Any], location: KeyPath
) -> Iterator[tuple[KeyPath, str]]:
    """Yield where a value of some type holds paths that count from its file, and the paths."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *more = get_args(kind)
        yield from _paths(value, inner, [*metadata, *more], location)
    elif origin in (Union, types.UnionType):
        members = get_args(kind)
        literals = [get_args(one) for one in members if get_origin(one) is Literal]
        if not any(value in values for values in literals if isinstance(value, str)):
            for member in members:
                yield from _paths(value, member, metadata, location)
    elif isinstance(value, str):
        if kind is str and not stays_in_place(metadata):
            is_path = IsPath in metadata or (IsSource in metadata and is_local(value))
            if is_path:
                yield location, value
    elif isinstance(value, Mapping):
        if isinstance(kind, type) and issubclass(kind, Section):
            for key, field in kind.model_fields.items():
                if key in value:
                    place = (*location, key)
                    yield from _paths(value[key], field.annotation, field.metadata, place)
        elif origin is dict:
            for key, item in value.items():
                yield from _paths(item, get_args(kind)[1], (), (*location, key))
    elif isinstance(value, list) and origin is tuple:
        kinds = [one for one in get_args(kind) if one is not Ellipsis]
        for number, item in enumerate(value):
            yield from _paths(item, kinds[min(number, len(kinds) - 1)], (), (*location, number))


def first_problem(error: ValidationError, content: Mapping[str, Any], root: type[Section]) -> str:
    """Say what is wrong first with a study's content: key, problem and fix."""
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
    """Return whether a part of a location is a key or an index of some content of the file."""
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
