"""Nothing half-written: a file appears under its name only when it is complete."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.provenance import SEAL_KEY
from glossogenesis.storage.full_disk import full_disk_in_one_line
from glossogenesis.storage.seals import BLANK_SEAL, check_seal, fill_seal
from glossogenesis.storage.text import read_text

SECONDS_TO_LOCK = 1.0
"""A temporary file that is older, and that nobody has locked, was left by a killed process."""


@contextmanager
def atomic_path(target: Path | str, when_full: str = "Free some space") -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` if the block succeeds.

    The file is flushed to disk before it is renamed. If the block fails, nothing remains; what a
    killed process left of an earlier attempt is removed. StudyError where the disk is full, with
    what to do then, `when_full`.
    """
    with full_disk_in_one_line(target, when_full), _atomic_path(Path(target)) as temporary:
        yield temporary


@contextmanager
def _atomic_path(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f".{target.name}.", ".part"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
    _lock(handle)
    _remove_abandoned(target.parent, prefix, suffix)
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


@contextmanager
def sealed_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path as `atomic_path` does, and fill in the seal of what is written there.

    ValueError where it does not hold exactly one `BLANK_SEAL`.
    """
    target = Path(target)
    with atomic_path(target) as temporary:
        yield temporary
        fill_seal(temporary, target.suffix)


def write_text(target: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, content: dict[str, Any], *, seal_in: Sequence[str] = ()) -> None:
    """Write a JSON object atomically, with a seal.

    It is indented and has sorted keys, so that equal content is equal bytes. `seal_in` leads to the
    object in it that gets the seal, where a format has no room for further keys at the top.
    """
    text = json.dumps(_with_seal(content, seal_in), ensure_ascii=False, indent=2, sort_keys=True)
    with sealed_path(target) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file, without its seal; StudyError where it is missing, damaged or not JSON."""
    text = read_text(path, "JSON file", "run the workflow to make it")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not valid JSON ({error}); delete it and rerun") from None
    check_seal(path, "JSON file")
    if isinstance(content, dict):
        content.pop(SEAL_KEY, None)
    return content


def is_still_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is the one at a path, and was neither removed nor replaced."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(now, os.fstat(descriptor))


def _with_seal(content: dict[str, Any], place: Sequence[str]) -> dict[str, Any]:
    """Return an object with a place for the seal in the object that `place` leads to."""
    if not place:
        return content | BLANK_SEAL
    key, *rest = place
    return content | {key: _with_seal(content[key], rest)}


def _lock(descriptor: int) -> bool:
    """Lock a file without waiting; False where another process has it, or locks are unknown."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_abandoned(folder: Path, prefix: str, suffix: str) -> None:
    """Remove temporary files of processes that were killed: the kernel has released their locks."""
    for path in folder.iterdir():
        if not (path.name.startswith(prefix) and path.name.endswith(suffix)):
            continue
        # Another process may be doing the same, or be about to lock the file that it made.
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                old = time.time() - os.fstat(descriptor).st_mtime > SECONDS_TO_LOCK
                if old and _lock(descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)


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
