"""The checkpoint sheet: one row a checkpoint, read without heavy imports."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from glossogenesis.config.section import Name, Section
from glossogenesis.errors import StudyError

COLUMNS = ("model", "checkpoint", "step", "tokens", "phase", "source", "revision", "subfolder")
REQUIRED = ("model", "checkpoint", "step", "source")

PRETRAIN_PREFIX = "pretrain:"


class Checkpoint(Section):
    """One row of the checkpoint sheet."""

    model: Name
    checkpoint: Name
    """A stable name; part of every path."""
    step: Annotated[int, Field(ge=0)]
    tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens seen in pretraining, where known."""
    phase: Annotated[int, Field(ge=1)] = 1
    source: str
    """A Hub id, a local path, or `pretrain:NAME`."""
    revision: str | None = None
    """A branch, tag or commit of a Hub id."""
    subfolder: str | None = None

    @property
    def pretrained_by(self) -> str | None:
        """The name under `pretrain:` that trains this checkpoint, or None."""
        if self.source.startswith(PRETRAIN_PREFIX):
            return self.source.removeprefix(PRETRAIN_PREFIX)
        return None


def read_sheet(path: Path) -> tuple[Checkpoint, ...]:
    """Read a TSV of checkpoints in its own order.

    StudyError names the line where a column is missing or unknown, a value is bad, or a model's
    checkpoint or step stands twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such checkpoint sheet; see `checkpoints` in the study") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text; save the sheet as UTF-8") from None
    rows = list(csv.reader(text.splitlines(), delimiter="\t"))
    if not rows:
        raise StudyError(f"{path}: empty; its first line names the columns {', '.join(COLUMNS)}")
    header = [cell.strip() for cell in rows[0]]
    _check_header(path, header)
    checkpoints = [
        _checkpoint(path, number, header, cells)
        for number, cells in enumerate(rows[1:], start=2)
        if any(cell.strip() for cell in cells)
    ]
    if not checkpoints:
        raise StudyError(f"{path}: holds no checkpoint; add a row")
    return tuple(checkpoints_without_repeats(path, checkpoints))


def _check_header(path: Path, header: list[str]) -> None:
    for column in REQUIRED:
        if column not in header:
            raise StudyError(f"{path}: no column {column!r}; columns are separated by tabs")
    for column in header:
        if column not in COLUMNS:
            raise StudyError(f"{path}: unknown column {column!r}; columns are {', '.join(COLUMNS)}")
        if header.count(column) > 1:
            raise StudyError(f"{path}: column {column!r} stands twice; remove one")


def _checkpoint(path: Path, number: int, header: list[str], cells: list[str]) -> Checkpoint:
    if len(cells) > len(header):
        raise StudyError(
            f"{path}, line {number}: {len(cells)} cells for {len(header)} columns; remove a tab"
        )
    filled = {
        name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()
    }
    try:
        return Checkpoint.model_validate(filled)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        shown = f" ({filled[column]!r})" if column in filled else ""
        raise StudyError(f"{path}, line {number}: column {column!r}{shown}: {first['msg']}") from None


def checkpoints_without_repeats(path: Path, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Return the rows; StudyError where a model has a checkpoint name twice."""
    seen: set[tuple[str, str]] = set()
    for row in checkpoints:
        key = (row.model, row.checkpoint)
        if key in seen:
            raise StudyError(
                f"{path}: model {row.model!r} has checkpoint {row.checkpoint!r} twice; "
                "remove a row or rename it"
            )
        seen.add(key)
    return checkpoints
