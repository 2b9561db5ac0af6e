"""The checkpoint sheet: one row per checkpoint, read without heavy imports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import filled_cells, read_text
from glossogenesis.study.section import Name, PathText, PathWithin, Revision, Section, is_local
from glossogenesis.study.yaml_file import LARGEST_NUMBER, problem_of

COLUMNS = ("model", "checkpoint", "step", "tokens", "phase", "source", "revision", "subfolder")
REQUIRED = ("model", "checkpoint", "step", "source")

PRETRAIN_PREFIX = "pretrain:"

Count = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]


class Checkpoint(Section):
    """One row of the checkpoint sheet."""

    model: Name
    """A name under `models`."""
    checkpoint: Name
    """A name that stays: it is part of every path."""
    step: Count
    """Training step."""
    tokens: Count | None = None
    """Tokens seen in pretraining, where known; figures use them for their axis where every row has
    them."""
    phase: Annotated[Count, Field(ge=1)] = 1
    """Phase of training; figures mark where it changes."""
    source: PathText
    """A Hub id (`org/model`), a folder (beginning with `.`, `/` or `~`), or `pretrain:NAME` for a
    model under `pretrain`."""
    revision: Revision | None = None
    """Branch, tag or full commit of a Hub id. The commit that it stands for is recorded."""
    subfolder: PathWithin | None = None
    """Folder within the source."""

    @property
    def pretrained_by(self) -> str | None:
        """The name under `pretrain:` that trains this checkpoint, or None."""
        if self.source.startswith(PRETRAIN_PREFIX):
            return self.source.removeprefix(PRETRAIN_PREFIX)
        return None

    @property
    def is_on_hub(self) -> bool:
        """Whether it is downloaded."""
        return self.pretrained_by is None and not is_local(self.source)


def read_sheet(path: Path) -> tuple[Checkpoint, ...]:
    """Read a TSV of checkpoints in its own order; lines that begin with # are remarks.

    StudyError names the line where a column is missing or unknown, a value is bad, or a model has
    one checkpoint twice.
    """
    text = read_text(path, "checkpoint sheet", "see `checkpoints` in the study")
    lines = [
        (number, line.split("\t"))
        for number, line in enumerate(text.splitlines(), start=1)
        if not line.startswith("#")
    ]
    if not lines:
        raise StudyError(f"{path}: empty; its first line names the columns {', '.join(COLUMNS)}")
    header = filled_cells([cell.strip() for cell in lines[0][1]])
    _check_header(path, header)
    checkpoints = [
        _checkpoint(path, number, header, cells)
        for number, cells in lines[1:]
        if any(cell.strip() for cell in cells)
    ]
    if not checkpoints:
        raise StudyError(f"{path}: holds no checkpoint; add a row")
    _check_repeats(path, checkpoints)
    _check_order(path, checkpoints)
    return tuple(checkpoints)


def _check_header(path: Path, header: list[str]) -> None:
    for column in REQUIRED:
        if column not in header:
            raise StudyError(
                f"{path}: no column {column!r}; the first line names the columns, separated by tabs"
            )
    for column in header:
        if column not in COLUMNS:
            raise StudyError(f"{path}: unknown column {column!r}; columns are {', '.join(COLUMNS)}")
        if header.count(column) > 1:
            raise StudyError(f"{path}: column {column!r} appears twice; remove one")


def _checkpoint(path: Path, number: int, header: list[str], cells: list[str]) -> Checkpoint:
    cells = filled_cells(cells, len(header))
    if len(cells) > len(header):
        raise StudyError(
            f"{path}, line {number}: {len(cells)} cells for {len(header)} columns; remove a tab"
        )
    filled = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}
    try:
        return Checkpoint.model_validate(filled)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        shown = f"{filled[column]!r}: {problem_of(first)}" if column in filled else "fill the cell"
        raise StudyError(f"{path}, line {number}: column {column!r}: {shown}") from None


def _check_order(path: Path, checkpoints: list[Checkpoint]) -> None:
    """StudyError where steps or tokens of a model start again in a later phase, or contradict."""
    by_model: dict[str, list[Checkpoint]] = {}
    for row in checkpoints:
        # Those that are pretrained here are compared with their pretraining.
        if row.pretrained_by is None:
            by_model.setdefault(row.model, []).append(row)
    for model, rows in by_model.items():
        for column in ("step", "tokens"):
            known = [row for row in rows if getattr(row, column) is not None]
            known.sort(key=lambda row: (row.phase, getattr(row, column)))
            for before, after in pairwise(known):
                earlier, later = getattr(before, column), getattr(after, column)
                if before.phase < after.phase and later <= earlier:
                    raise StudyError(
                        f"{path}: model {model!r}: checkpoint {after.checkpoint!r} of phase "
                        f"{after.phase} has {column} {later}, not beyond {earlier} of "
                        f"{before.checkpoint!r} in phase {before.phase}; training goes on over "
                        f"phases, so add what came before ({earlier}) to every {column} of phase "
                        f"{after.phase}"
                    )
        counted = [row for row in rows if row.tokens is not None]
        counted.sort(key=lambda row: row.step)
        for before, after in pairwise(counted):
            if (after.tokens or 0) < (before.tokens or 0) and before.step < after.step:
                raise StudyError(
                    f"{path}: model {model!r}: checkpoint {after.checkpoint!r} has a later step "
                    f"and fewer tokens than {before.checkpoint!r}; correct a cell"
                )


def same_steps(checkpoints: Iterable[Checkpoint]) -> Iterator[str]:
    """Yield, for each model, what checkpoints of one step figures draw over each other."""
    at: dict[tuple[str, int], list[str]] = {}
    for row in checkpoints:
        at.setdefault((row.model, row.step), []).append(row.checkpoint)
    for (model, step), names in at.items():
        if len(names) > 1:
            yield (
                f"checkpoints {', '.join(map(repr, names))} of model {model!r} are all of step "
                f"{step}: figures over training draw them at one place; give another model name to "
                "those of another run"
            )


def _check_repeats(path: Path, checkpoints: list[Checkpoint]) -> None:
    """StudyError where a model has a name twice, or the same files under two names."""
    names: set[tuple[str, str]] = set()
    name_of: dict[tuple[object, ...], str] = {}
    for row in checkpoints:
        if (row.model, row.checkpoint) in names:
            raise StudyError(
                f"{path}: model {row.model!r} has checkpoint {row.checkpoint!r} twice; "
                "remove a row or rename it"
            )
        names.add((row.model, row.checkpoint))
        step = row.step if row.pretrained_by else None
        first = name_of.setdefault(
            (row.model, row.source, row.revision, row.subfolder, step), row.checkpoint
        )
        if first != row.checkpoint:
            raise StudyError(
                f"{path}: checkpoints {first!r} and {row.checkpoint!r} of model {row.model!r} have "
                "the same source, revision and subfolder; remove or correct a row"
            )
