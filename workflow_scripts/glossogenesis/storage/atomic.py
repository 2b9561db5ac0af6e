"""Nothing half-written: a file appears under its name only when it is complete."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.storage.text import read_text


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` if the block succeeds.

    The file is flushed to disk before it is renamed. If the block fails, nothing remains.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(target: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, content: Any) -> None:
    """Write JSON atomically, indented and with sorted keys so that equal content is equal bytes."""
    write_text(target, json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; StudyError where it is missing or not JSON."""
    text = read_text(path, "JSON file", "run the workflow to make it")
    try:
        return json.loads(text)
    except ValueError as error:
        raise StudyError(f"{path}: not valid JSON ({error}); delete it and rerun") from None


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The process mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
