"""Files that may be compressed, told by their first bytes, never by their names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from glossogenesis.errors import StudyError

SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "bzip2": ".bz2", "xz": ".xz"}

_BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
}

LONGEST_BEGINNING = 8


def compression_of(path: Path) -> str | None:
    """Return a file's compression, one of `SUFFIXES`; None where it has none.

    StudyError where it is an archive of files.
    """
    with path.open("rb") as file:
        beginning = file.read(LONGEST_BEGINNING)
    for first, archive in _ARCHIVES.items():
        if beginning.startswith(first):
            raise StudyError(f"{path}: {archive}; unpack it, and name the files that it holds")
    return next((name for first, name in _BEGINNINGS.items() if beginning.startswith(first)), None)


def suffix_within(path: Path) -> str:
    """Return the end of a file's name without that of its compression, in lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in SUFFIXES.values():
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading as it is without its compression; StudyError where it is damaged."""
    compression = compression_of(path)
    try:
        with _stream(path, compression) as file:
            yield file
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise StudyError(_damaged(path, compression, error)) from None
    except OSError as error:
        if compression is None:
            raise
        raise StudyError(_damaged(path, compression, error)) from None


def _stream(path: Path, compression: str | None) -> Any:
    if compression == "zstd":
        # Before Python 3.14 only pyarrow reads it; other files do not need the moment it takes.
        import pyarrow as pa

        return io.BufferedReader(cast(io.RawIOBase, pa.input_stream(str(path), compression="zstd")))
    openers: dict[str | None, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return openers.get(compression, open)(path, "rb")


def _damaged(path: Path, compression: str | None, error: Exception) -> str:
    reason = str(error).strip() or type(error).__name__
    return f"{path}: damaged {compression} file ({reason}); download or write it again"
