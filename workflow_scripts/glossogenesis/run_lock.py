"""One run at a time in a folder of results, and one job at a time on an output.

Both are leases: files that name their holder, who renews them as long as it lives. They rest on
nothing but the making of a file that is not there yet, which holds on network file systems too,
where `flock` may claim to lock and keep nobody out. What was killed can be started again: on the
same machine at once, on another one when its lease has not been renewed for `LEASE_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import SoftFileLease, Timeout

from glossogenesis.errors import StudyError

if TYPE_CHECKING:
    from filelock import OwnerRecord

LOCK_FILE = "driver.lock"
"""In a folder of results while a run writes there; names the run's process."""

LEASE_SECONDS = 240.0
"""A network file system may show a renewal to other machines a minute late."""

RENEWAL_SECONDS = 30.0
SECONDS_TO_GIVE_UP = 0.5
"""A dry run that looks whether somebody is here holds a lock for a moment."""

SECONDS_BETWEEN_TRIES = 0.1


def claim_results(results: Path) -> SoftFileLease:
    """Take a folder of results for this process, until it ends or releases what is returned.

    StudyError where another process has it, or nothing can be written there.
    """
    lock = _lease(results / LOCK_FILE)
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=SECONDS_TO_GIVE_UP)
    except Timeout:
        raise StudyError(
            f"{results}: {_named(lock.owner)} is running a study here; wait until it ends, or stop "
            f"it. If it was killed, delete {results / LOCK_FILE}"
        ) from None
    except OSError as error:
        raise StudyError(
            f"{results}: cannot be written ({error.strerror}); get leave to write there, or set "
            "`pathvars.results`"
        ) from None
    return lock


def running_in(results: Path) -> str | None:
    """Return which process is running a study in a folder of results, None where none is."""
    lock = _lease(results / LOCK_FILE)
    if lock.owner is None:
        return None
    try:
        with lock.acquire(timeout=SECONDS_TO_GIVE_UP):
            return None
    except Timeout:
        return _named(lock.owner)
    except OSError:
        return None


def remove_stale_locks(results: Path, locks: Path) -> int:
    """Remove Snakemake's locks of a killed run, so that it can be started again; return how many.

    `locks` is Snakemake's folder of them: pairs `{number}.input.lock` and `{number}.output.lock`
    that list files. Those are removed that list outputs in `results`, unless a run holds this
    folder, or another machine's has not released it.
    """
    if running_in(results) is not None:
        return 0
    found = [path for path in locks.glob("*.output.lock") if _lists(path, results)]
    for path in found:
        path.unlink(missing_ok=True)
        path.with_name(path.name.replace(".output.", ".input.")).unlink(missing_ok=True)
    return len(found)


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output while it is made; wait where a job of a killed run is still making it.

    The lease is a hidden file beside the output, removed at the end.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = _lease(output.parent / f".{output.name}.lock")
    try:
        lock.acquire(timeout=SECONDS_TO_GIVE_UP)
    except Timeout:
        print(f"Waiting for {_named(lock.owner)}, which is making {output.parent}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lease(path: Path) -> SoftFileLease:
    return SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=RENEWAL_SECONDS,
        poll_interval=SECONDS_BETWEEN_TRIES,
    )


def _named(owner: OwnerRecord | None) -> str:
    return f"process {owner.pid} on {owner.hostname}" if owner else "another process"


def _lists(lock: Path, results: Path) -> bool:
    folder = results.absolute()
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(Path(line).absolute().is_relative_to(folder) for line in lines)
