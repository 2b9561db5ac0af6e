"""Parquet tables that carry their provenance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import atomic_path, sealed_path
from glossogenesis.storage.provenance import Provenance, check_seal, provenance_in, sealed_metadata


def write_table(path: Path | str, table: pl.DataFrame, provenance: Provenance) -> None:
    """Write a Parquet file atomically, with provenance and seal in its key-value metadata."""
    with sealed_path(path) as temporary:
        table.write_parquet(temporary, compression="zstd", metadata=sealed_metadata(provenance))


def write_csv(path: Path | str, table: pl.DataFrame) -> None:
    """Write a CSV file atomically; floats keep all their digits."""
    with atomic_path(path) as temporary:
        table.write_csv(temporary)


def read_table(path: Path | str) -> pl.DataFrame:
    """Read a Parquet file; StudyError where it is missing or damaged."""
    with _clear_errors(path):
        check_seal(path, "Parquet file")
        return pl.read_parquet(path)


def read_provenance(path: Path | str) -> Provenance:
    """Read a Parquet file's provenance; StudyError where it is damaged or has none."""
    with _clear_errors(path):
        check_seal(path, "Parquet file")
        entries = pl.read_parquet_metadata(path)
    return provenance_in(entries, path)


@contextmanager
def _clear_errors(path: Path | str) -> Iterator[None]:
    """Turn what a missing or damaged Parquet file raises into StudyError."""
    try:
        yield
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run the workflow to make it") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise StudyError(
            f"{path}: damaged Parquet file ({first_line}); delete it and rerun"
        ) from None
