"""Tables that this project's own resources are written in: tab-separated, with remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.storage.text import filled_cells, read_text


@dataclass(frozen=True)
class TableRow:
    """One row of a table, and where it stands."""

    cells: dict[str, str]
    """Cells by column, without white space at their ends."""
    place: str
    """File and line, for messages."""


def read_rows(path: Path | str, what: str, columns: Sequence[str], mend: str) -> list[TableRow]:
    """Read the rows of a table that has exactly `columns`, in any order, and no empty cell.

    Cells are not quoted; empty lines and lines that begin with `#` are passed over. `what` names
    the kind of table and `mend` says what to do where there is none. StudyError names the line.
    """
    lines = [
        (number, [cell.strip() for cell in line.split("\t")])
        for number, line in enumerate(read_text(path, what, mend).split("\n"), start=1)
        if line.strip() and not line.startswith("#")
    ]
    header = filled_cells(lines[0][1]) if lines else []
    if sorted(header) != sorted(columns):
        raise StudyError(
            f"{path}: its first line names the columns {', '.join(header) or '(none)'}; a {what} "
            f"has {', '.join(columns)}, separated by tabs"
        )
    rows = []
    for number, cells in lines[1:]:
        place = f"{path}, line {number}"
        cells = filled_cells(cells, len(header))
        if len(cells) != len(header) or "" in cells:
            raise StudyError(
                f"{place}: {sum(map(bool, cells))} filled cells for {len(header)} columns; fill "
                "each, and separate them by single tabs"
            )
        rows.append(TableRow(dict(zip(header, cells, strict=True)), place))
    return rows
