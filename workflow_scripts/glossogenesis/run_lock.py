"""One run at a time in a folder of results, and one job at a time on an output.

Both are `flock`s, which the kernel releases when their holder ends, however it ends: what was
killed can be started again at once. A file system without such locks is left to Snakemake's own.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from glossogenesis.errors import StudyError
from glossogenesis.storage.atomic import is_still_at

LOCK_FILE = "driver.lock"
"""In a folder of results; names the process that holds it, and stays there."""

TRIES = 5
SECONDS_BETWEEN_TRIES = 0.1

_WITHOUT_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


def claim_results(results: Path) -> IO[str]:
    """Take a folder of results for this process, until it ends or closes what is returned.

    StudyError where another live process has it, or nothing can be written there.
    """
    try:
        return _claimed_results(results)
    except OSError as error:
        raise StudyError(
            f"{results}: cannot be written ({error.strerror}); get leave to write there, or set "
            "`pathvars.results`"
        ) from None


def _claimed_results(results: Path) -> IO[str]:
    results.mkdir(parents=True, exist_ok=True)
    file = (results / LOCK_FILE).open("a+", encoding="utf-8")
    tries = 0
    while not _locked(file, wait=False):
        # A dry run that looks whether somebody is here holds the lock for a moment.
        tries += 1
        if tries < TRIES:
            time.sleep(SECONDS_BETWEEN_TRIES)
            continue
        owner = _owner_in(file)
        file.close()
        raise StudyError(
            f"{results}: {_named(owner)} is running a study here; wait until it ends, or stop it"
        )
    file.truncate(0)
    json.dump({"host": socket.gethostname(), "process": os.getpid()}, file)
    file.flush()
    return file


def running_in(results: Path) -> str | None:
    """Return which process is running a study in a folder of results, None where none is."""
    try:
        with (results / LOCK_FILE).open("r+", encoding="utf-8") as file:
            return None if _locked(file, wait=False) else _named(_owner_in(file))
    except OSError:
        return None


def remove_stale_locks(results: Path, locks: Path) -> int:
    """Remove Snakemake's locks of a killed run, so that it can be started again; return how many.

    `locks` is Snakemake's folder of them: pairs `{number}.input.lock` and `{number}.output.lock`
    that list files. Those are removed that list outputs in `results`, and only where the run that
    claimed this folder ran on this host and is no more.
    """
    try:
        file = (results / LOCK_FILE).open("r+", encoding="utf-8")
    except OSError:
        return 0
    with file:
        if _owner_in(file).get("host") != socket.gethostname() or not _locked(file, wait=False):
            return 0
        found = [path for path in locks.glob("*.output.lock") if _lists(path, results)]
        for path in found:
            path.unlink(missing_ok=True)
            path.with_name(path.name.replace(".output.", ".input.")).unlink(missing_ok=True)
        return len(found)


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output while it is made; wait where a job of a killed run is still making it.

    The lock is a hidden file beside the output, removed at the end.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.parent / f".{output.name}.lock"
    file = _open_locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _open_locked(path: Path) -> IO[str]:
    while True:
        file = path.open("a", encoding="utf-8")
        if not _locked(file, wait=False):
            print(f"Waiting for the job that is making {path.parent}", flush=True)
            _locked(file, wait=True)
        # Whoever held it before has removed the file: a lock on a nameless file keeps nobody out.
        if is_still_at(file.fileno(), path):
            return file
        file.close()


def _locked(file: IO[str], *, wait: bool) -> bool:
    """Lock an open file; return whether it is this process's now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return True


def _owner_in(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        owner = json.load(file)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _named(owner: dict[str, Any]) -> str:
    if "process" not in owner:
        return "another process"
    return f"process {owner['process']} on {owner.get('host')}"


def _lists(lock: Path, results: Path) -> bool:
    folder = results.absolute()
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(Path(line).absolute().is_relative_to(folder) for line in lines)
