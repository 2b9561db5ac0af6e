"""Several files of one study: a path counts from the folder of the file that names it.

Snakemake merges the files of `--configfile a.yaml b.yaml` before anyone sees them. Here the paths
that a later file names are written anew in the merged configuration, so that they count from the
first file's folder, as all others do.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from glossogenesis.config.limits import load_yaml
from glossogenesis.errors import StudyError
from glossogenesis.storage.text import read_text
from glossogenesis.study.section import IsPath, IsSource, Section, is_local, stays_in_place

Location = tuple[Any, ...]


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
    named: dict[Location, tuple[Path, str]] = {}
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


def _place_of(content: Any, location: Location) -> Any:
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
    value: Any, kind: Any, metadata: Sequence[Any], location: Location
) -> Iterator[tuple[Location, str]]:
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
