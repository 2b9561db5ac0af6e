"""A full disk is reported in one line, whichever library meets it."""

from __future__ import annotations

import errno
from pathlib import Path

import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import atomic_path, full_disk_in_one_line, is_disk_full

FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError("No space left on device (os error 28)"),
    pl.exceptions.ComputeError("parquet: underlying IO error: No space left (os error 28)"),
)


@pytest.mark.parametrize("error", FULL)
def test_every_way_of_saying_it_is_known(error: Exception, tmp_path: Path) -> None:
    assert is_disk_full(error)
    expected = "table.parquet: the disk is full. Free some space. What is finished stays: rerun"
    with pytest.raises(StudyError, match=expected), atomic_path(tmp_path / "table.parquet"):
        raise error
    assert not any(tmp_path.iterdir())


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), full_disk_in_one_line("table.parquet"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_the_first_to_tell_says_what_to_do() -> None:
    with (
        pytest.raises(StudyError, match=r"shard: the disk is full\. Store less\."),
        full_disk_in_one_line("program"),
        full_disk_in_one_line("shard", "Store less"),
    ):
        raise FULL[0]


def test_an_error_on_the_way_out_does_not_hide_it() -> None:
    with pytest.raises(StudyError, match="the disk is full"), full_disk_in_one_line("figure.pdf"):
        try:
            raise FULL[0]
        finally:
            raise ValueError("write to closed file")
