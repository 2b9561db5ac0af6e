"""Parquet tables: values, provenance, equal bytes, and damaged files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import METADATA_KEY, Provenance
from glossogenesis.storage.tables import read_provenance, read_table, write_csv, write_table

ORIGIN = Provenance("table", "demo", {"seed": 1}, {}, "ab", model="m", libraries={"torch": "2"})
TABLE = pl.DataFrame({"item": [1, 2], "words": [["gato"], []], "p": [0.1, None]})


def test_values_and_provenance_survive(tmp_path: Path) -> None:
    path = tmp_path / "a" / "table.parquet"
    write_table(path, TABLE, ORIGIN)
    assert read_table(path).equals(TABLE)
    assert read_provenance(path) == ORIGIN


def test_other_libraries_see_the_provenance(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", TABLE, ORIGIN)
    metadata = pq.read_metadata(tmp_path / "table.parquet").metadata
    assert b'"study": "demo"' in metadata[METADATA_KEY.encode()]


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name, TABLE, ORIGIN)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_csv_keeps_all_digits(tmp_path: Path) -> None:
    third = pl.DataFrame({"p": [1 / 3]})
    write_csv(tmp_path / "p.csv", third)
    assert pl.read_csv(tmp_path / "p.csv").equals(third)


@pytest.mark.parametrize("read", [read_table, read_provenance])
def test_damaged_files_are_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    path = tmp_path / "table.parquet"
    with pytest.raises(StudyError, match=r"table.parquet: no such file; run the workflow"):
        read(path)
    write_table(path, TABLE, ORIGIN)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StudyError, match=r"table.parquet: damaged Parquet file .*delete it and"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(StudyError, match=r"table.parquet: damaged Parquet file"):
        read(path)


def test_tables_of_others_have_no_provenance(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "theirs.parquet")
    with pytest.raises(StudyError, match=r"theirs.parquet: carries no provenance"):
        read_provenance(tmp_path / "theirs.parquet")
