"""What the columns of a table mean, for `glossogenesis inspect` and for the user guide.

Meanings stand once, in `columns.yaml`: beside the schemas they would be code, and a better word in
one would compute every artifact again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

MEANINGS_FILE = Path(__file__).with_name("columns.yaml")


@dataclass(frozen=True)
class TableMeaning:
    """What is written of one table."""

    schema: str
    """Where the library has its columns, below `glossogenesis`."""
    columns: Mapping[str, str]
    """The meaning of each column that is not explained in `shared`."""
    shared: str | None = None
    """The table that explains the columns which several have."""


@cache
def table_meanings() -> Mapping[str, TableMeaning]:
    """Return every table by its kind, or kind and file name where a kind has several."""
    content = yaml.safe_load(MEANINGS_FILE.read_text(encoding="utf-8"))
    return {name: TableMeaning(**entry) for name, entry in content.items()}


def meanings_of(path: Path, provenance: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the meaning of each column of an artifact, none where its kind is not known."""
    tables = table_meanings()
    kind = str((provenance or {}).get("kind"))
    table = tables.get(f"{kind}/{path.name}", tables.get(kind))
    if table is None:
        return {}
    return {**(tables[table.shared].columns if table.shared else {}), **table.columns}
