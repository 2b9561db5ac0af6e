"""Nothing half-written: a file appears under its name only when it is complete."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.storage.full_disk import full_disk_in_one_line
from glossogenesis.storage.provenance import SEAL_KEY
from glossogenesis.storage.seals import BLANK_SEAL, check_seal, fill_seal
from glossogenesis.storage.text import read_text

A_DAY = 86_400.0
"""Seconds after which another machine's temporary file counts as left by a killed process."""


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
    _remove_abandoned(target)
    prefix = f"{_of_this_machine(target)}{os.getpid()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=target.parent)
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


def _with_seal(content: dict[str, Any], place: Sequence[str]) -> dict[str, Any]:
    """Return an object with a place for the seal in the object that `place` leads to."""
    if not place:
        return content | BLANK_SEAL
    key, *rest = place
    return content | {key: _with_seal(content[key], rest)}


def _of_this_machine(target: Path) -> str:
    """Return how names of a target's temporary files begin; the number of a process follows."""
    return f".{target.name}.{socket.gethostname()}."


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes left of earlier attempts at a target."""
    ours = _of_this_machine(target)
    for path in target.parent.iterdir():
        if not (path.name.startswith(f".{target.name}.") and path.name.endswith(".part")):
            continue
        # Another process may have finished with it meanwhile.
        with suppress(FileNotFoundError):
            if path.name.startswith(ours):
                abandoned = not _is_alive(int(path.name.removeprefix(ours).split(".")[0]))
            else:
                # Whether a process of another machine lives cannot be known from here.
                abandoned = time.time() - path.stat().st_mtime > A_DAY
            if abandoned:
                path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It lives, as another user's.
        return True
    return True


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
