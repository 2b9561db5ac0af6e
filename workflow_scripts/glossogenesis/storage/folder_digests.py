"""Digests of a folder that another library writes, so that damage in it is noticed."""

from __future__ import annotations

from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.storage.files import read_json, write_json
from glossogenesis.storage.provenance import file_digest

DIGESTS = "digests.json"


def record_digests(folder: Path) -> None:
    """Write the SHA-256 of every file in a folder into it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != DIGESTS]
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    write_json(folder / DIGESTS, {"files": digests})


def has_recorded_bytes(folder: Path) -> bool:
    """Tell whether a folder has its digests, and every file is the one that they were taken of."""
    try:
        recorded = read_json(folder / DIGESTS)["files"]
        return all(file_digest(folder / name) == digest for name, digest in recorded.items())
    except (OSError, StudyError):
        return False
