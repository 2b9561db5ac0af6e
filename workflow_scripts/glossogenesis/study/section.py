"""The base of every section of a study file, and types that sections share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
"""Names become parts of paths: no slash, no space, no leading dot or dash."""

LANGUAGE_PATTERN = r"^[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*$"
"""Language codes of any standard: `es`, `zh-Hans`, `sr-Latn-RS`, `zho_Hans`; parts of names."""

LONGEST_PATH = 4000
LONGEST_PART = 255
"""What file systems take, in bytes of UTF-8."""


def _path_for_the_workflow(path: str) -> str:
    """Refuse what no file is called, and what Snakemake takes for a wildcard or path variable."""
    if not path.strip():
        raise ValueError("is empty; write a path")
    if not path.isprintable():
        raise ValueError("holds a character that cannot be seen; write the path again")
    if found := re.search(r"[{}<>]", path):
        raise ValueError(
            f"holds {found[0]!r}, which Snakemake takes for a part to fill in; rename the file or "
            "folder"
        )
    longest = max(len(part.encode()) for part in path.split("/"))
    if len(path.encode()) > LONGEST_PATH or longest > LONGEST_PART:
        raise ValueError("is longer than a path can be; shorten it")
    return path


def _output_folder(path: str) -> str:
    """Refuse a folder of outputs that Snakemake would not put where it is written."""
    if path.startswith("~"):
        raise ValueError("begins with `~`, which only shells expand; write the folder in full")
    return path


def _path_within(path: str) -> str:
    """Refuse a path that leads out of the folder that it counts from."""
    parts = path.split("/")
    if "\\" in path or "" in parts or any(part in (".", "..") for part in parts):
        raise ValueError("leads out of its source; write a folder within it, such as `step100`")
    if path.startswith("~") or ":" in parts[0]:
        raise ValueError("is no folder within its source; write one such as `step100`")
    return path


def _git_reference(revision: str) -> str:
    """Refuse what git lets no branch, tag or commit be called."""
    is_bad = re.search(r"[\s~^:?*\[\\]|\.\.|//|@\{|/\.|\.lock(/|$)", revision)
    if is_bad or not revision.isprintable() or revision[:1] in "-/." or revision[-1:] in "/.":
        raise ValueError("is no name of a branch, tag or commit; write one such as `main`")
    return revision


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=80)]
LanguageCode = Annotated[str, StringConstraints(pattern=LANGUAGE_PATTERN, max_length=35)]
LanguagePair = tuple[LanguageCode, LanguageCode]
IsPath = AfterValidator(_path_for_the_workflow)
IsSource = "a Hub id, or a path where it is written as one"
"""Marks a value that `is_local` tells a path from a Hub id."""
PathText = Annotated[str, IsPath]
"""A path of the user's own, anywhere."""
OutputFolder = Annotated[PathText, AfterValidator(_output_folder)]
"""A folder that the workflow writes to."""
PathWithin = Annotated[PathText, AfterValidator(_path_within)]
"""A path that stays below a folder."""
Revision = Annotated[str, AfterValidator(_git_reference)]
"""A branch, tag or commit."""


def is_local(source: str) -> bool:
    """Return whether a source is written as a local path: with a leading dot, slash or tilde."""
    return source.startswith((".", "/", "~"))


def stays_in_place(metadata: Sequence[object]) -> bool:
    """Tell of a path's type whether it counts from no file of the study: it is an output's."""
    functions = (one.func for one in metadata if isinstance(one, AfterValidator))
    return any(function in (_output_folder, _path_within) for function in functions)


class Section(BaseModel):
    """A frozen part of a study whose unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _without_repetition(listed: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in listed:
        if listed.count(value) > 1:
            raise ValueError(f"{value} appears twice; remove one")
    return listed


Distinct = AfterValidator(_without_repetition)
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), Distinct]
"""One seed or several, each once."""
