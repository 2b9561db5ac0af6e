"""Describe one file: a table or tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError, safe_open

from glossogenesis.inspection.content import (
    Inspection,
    Section,
    cell,
    damaged,
    kind_in_words,
    origin,
    provenance_in,
    provenance_sections,
)


def describe_parquet(path: Path, rows: int) -> Inspection:
    """Describe a Parquet file."""
    try:
        provenance = provenance_in(path, pl.read_parquet_metadata(path))
        return _describe_table(path, pl.scan_parquet(path), rows, provenance)
    except pl.exceptions.PolarsError as error:
        raise damaged(path, "Parquet file", error) from None


def describe_delimited(path: Path, rows: int) -> Inspection:
    """Describe a CSV or TSV file; a CSV beside a Parquet file of its name is a copy of it."""
    is_sheet = path.suffix == ".tsv"
    try:
        frame = pl.scan_csv(
            path, separator="\t" if is_sheet else ",", quote_char=None if is_sheet else '"'
        )
        table = _describe_table(path, frame, rows, None)
    except pl.exceptions.PolarsError as error:
        raise damaged(path, "table", error) from None
    twin = path.with_suffix(".parquet")
    if not twin.is_file():
        return table
    copied = ("copy of", f"{twin.name}, which carries the provenance")
    return Inspection(path, table.kind, (copied, *table.facts), table.sections)


def _describe_table(
    path: Path, frame: pl.LazyFrame, rows: int, provenance: Mapping[str, Any] | None
) -> Inspection:
    """Describe a table; only its first rows are kept in memory."""
    schema = frame.collect_schema()
    counts = frame.select(pl.len().alias(""), pl.all().null_count()).collect().row(0)
    first = frame.head(rows).collect()
    columns = tuple(
        (name, str(dtype), f"{empty:,}")
        for (name, dtype), empty in zip(schema.items(), counts[1:], strict=True)
    )
    shape = (("rows", f"{counts[0]:,}"), ("columns", str(len(columns))))
    shown = tuple(tuple(cell(value) for value in row) for row in first.rows())
    sections = (
        *provenance_sections(provenance),
        Section("Columns", ("column", "type", "empty cells"), columns),
        Section(f"First rows ({first.height})", tuple(schema.names()), shown, records=True),
    )
    facts = (*shape, *origin(path, provenance))
    return Inspection(path, kind_in_words(path, provenance), facts, sections)


def describe_tensors(path: Path) -> Inspection:
    """Describe a safetensors file; tensors are read one at a time."""
    # torch takes seconds to import, and only values of tensors need it.
    from glossogenesis.inspection.tensors import tensor_rows

    try:
        with safe_open(str(path), framework="np") as file:
            provenance = provenance_in(path, file.metadata() or {})
        rows = tuple(tensor_rows(path))
    except SafetensorError as error:
        raise damaged(path, "safetensors file", error) from None
    headers = ("tensor", "type", "shape", "least", "mean", "greatest", "NaN")
    facts = (("tensors", f"{len(rows):,}"), *origin(path, provenance))
    sections = (*provenance_sections(provenance), Section("Tensors", headers, rows))
    return Inspection(path, kind_in_words(path, provenance), facts, sections)
