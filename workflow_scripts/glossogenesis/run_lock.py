"""One run at a time in a folder of results: a lease that names its process."""

from __future__ import annotations

from pathlib import Path

from filelock import SoftFileLease, Timeout

from glossogenesis.errors import StudyError
from glossogenesis.storage.leases import SECONDS_TO_GIVE_UP, lease, named

LOCK_FILE = "driver.lock"
"""In a folder of results while a run writes there; names the run's process."""


def claim_results(results: Path) -> SoftFileLease:
    """Take a folder of results for this process, until it ends or releases what is returned.

    StudyError where another process has it, or nothing can be written there.
    """
    lock = lease(results / LOCK_FILE)
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=SECONDS_TO_GIVE_UP)
    except Timeout:
        raise StudyError(
            f"{results}: {named(lock.owner)} is running a study here; wait until it ends, or stop "
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
    lock = lease(results / LOCK_FILE)
    if lock.owner is None:
        return None
    try:
        with lock.acquire(timeout=SECONDS_TO_GIVE_UP):
            return None
    except Timeout:
        return named(lock.owner)
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


def _lists(lock: Path, results: Path) -> bool:
    folder = results.absolute()
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(Path(line).absolute().is_relative_to(folder) for line in lines)
