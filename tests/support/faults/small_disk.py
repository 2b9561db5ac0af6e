"""A disk of a size of its own for a folder of results, where that can be had."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SmallDisk:
    """A disk in memory, mounted at `folder`."""

    folder: Path

    def resize(self, size: int) -> None:
        """Give the disk so many bytes; OSError where that cannot be done."""
        mount("-o", f"remount,size={size}", str(self.folder))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Mount a disk of so many bytes at a folder; OSError where that cannot be done."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*arguments: str) -> None:
    """Run `mount`; OSError with what it printed."""
    if os.geteuid() != 0:
        raise OSError("mounting a disk takes root")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.strip())


def bytes_on_disk(folder: Path) -> int:
    """Bytes that the files of a folder take on such a disk, which gives them out in pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // page) * page for size in sizes)
