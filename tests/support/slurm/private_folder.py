"""Processes that see a folder of these tests' own where all others see one of the machine's."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PrivateFolder:
    """A mount namespace of Linux; it lasts as long as a process is in it.

    Nothing is written into the machine's folder, which is made where it is not there, and whatever
    becomes of the tests, nothing has to be put back.
    """

    _holder: subprocess.Popen[bytes]

    @classmethod
    def at(cls, place: Path, content: Path) -> "PrivateFolder":
        """Show `content` at `place` to the processes that are started through this object."""
        place.mkdir(parents=True, exist_ok=True)
        # `cat` ends when the tests do, however they end: its input is theirs.
        holder = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", 'mount --bind "$1" "$2" && echo mounted && exec cat', "sh"),
                *(content, place),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if holder.stdout.readline() != b"mounted\n":
            raise RuntimeError(f"{place} could not be covered: status {holder.wait()}")
        return cls(holder)

    def command(self, *words: str, folder: Path | str = ".") -> list[str]:
        """Return the words of a command that runs in a folder and sees the content."""
        # Who enters stands in the root folder.
        inside = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]
        return [*inside, "env", f"--chdir={Path(folder).absolute()}", *words]

    def holds(self, process: int) -> bool:
        """Return whether a process, which may have ended, sees the content."""
        try:
            return _namespace(process) == _namespace(self._holder.pid)
        except OSError:
            return False

    def end(self) -> None:
        """Let go of the namespace; processes in it stay."""
        self._holder.communicate()


def _namespace(process: int) -> Path:
    return Path(f"/proc/{process}/ns/mnt").readlink()
