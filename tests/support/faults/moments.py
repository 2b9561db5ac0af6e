"""Plans of kills: who dies, and when in the life of which program."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Victim = Literal["step", "driver", "group"]
Event = Literal["start", "open", "os.rename", "exit"]

SECONDS_OF_ORPHANS = 6.0
"""How long a job outlives its driver before it goes on: longer than the next driver's start."""


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    It comes when `program`, in a job whose command line has `argument`, meets its event number
    `count` that concerns `path`: `os.rename`, when a file is about to appear under its name;
    `open`, when one is about to be written; `start` and `exit` of the program.
    """

    victim: Victim
    program: str
    event: Event = "start"
    path: str = ""
    count: int = 1
    argument: str = ""
    delay: float = 0.0
    """Seconds between the moment and the kill."""
    linger: float = SECONDS_OF_ORPHANS

    def __str__(self) -> str:
        moment = self.event if self.event in ("start", "exit") else f"{self.event} {self.count}"
        return f"{self.program}, {moment}{f' of {self.path}' if self.path else ''}"


def plan(folder: Path, kills: list[Kill]) -> None:
    """Write plans for the programs of a tree."""
    for number, each in enumerate(kills):
        (folder / f"{number:03d}.json").write_text(json.dumps(asdict(each)))


def pending(folder: Path) -> list[str]:
    """Plans that have not been carried out."""
    return [path.read_text() for path in sorted(folder.glob("*.json"))]
