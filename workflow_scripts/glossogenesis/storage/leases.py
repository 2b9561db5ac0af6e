"""Leases: files that name the process that makes something, and that it renews while it lives.

They need no more of a file system than that a new file is made by one process alone, which network
file systems keep too; their `flock` may succeed for everybody. What a killed process held is taken
over: on the same machine at once, on another one when it was not renewed for `LEASE_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import SoftFileLease, Timeout

if TYPE_CHECKING:
    from filelock import OwnerRecord

LEASE_SECONDS = 240.0
"""A network file system may show a renewal to other machines a minute late."""

RENEWAL_SECONDS = 30.0
SECONDS_TO_GIVE_UP = 0.5
"""Who only looks whether a lease is held holds it for a moment."""


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output while it is made; wait where a job of a killed run is still making it.

    The lease is a hidden file beside the output, removed at the end.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = lease(output.parent / f".{output.name}.lock")
    try:
        lock.acquire(timeout=SECONDS_TO_GIVE_UP)
    except Timeout:
        print(
            f"Waiting for {named(lock.owner)}, which is making {output.parent}; if it was killed "
            f"there, for {LEASE_SECONDS / 60:.0f} minutes",
            flush=True,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lease(path: Path) -> SoftFileLease:
    """Return the lease of a file, not yet acquired."""
    return SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=RENEWAL_SECONDS,
        poll_interval=0.1,
    )


def named(owner: OwnerRecord | None) -> str:
    """Return what messages call the holder of a lease."""
    return f"process {owner.pid} on {owner.hostname}" if owner else "another process"
