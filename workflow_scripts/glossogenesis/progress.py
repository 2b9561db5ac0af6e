"""Progress bars that read well on a terminal and in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar, overload

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS_BETWEEN_LOG_LINES = 5.0


class _LogLines:
    """A text stream on which every refresh of a bar becomes a line of its own."""

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip()
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


@overload
def progress(
    iterable: Iterable[Item],
    *,
    total: float | None = None,
    done: float = 0,
    label: str,
    unit: str = "it",
) -> tqdm[Item]: ...


@overload
def progress(
    iterable: None = None,
    *,
    total: float | None = None,
    done: float = 0,
    label: str,
    unit: str = "it",
) -> tqdm[Any]: ...


def progress(
    iterable: Iterable[Item] | None = None,
    *,
    total: float | None = None,
    done: float = 0,
    label: str,
    unit: str = "it",
) -> tqdm[Any]:
    """Return a progress bar with the estimated time left.

    `done` is what an earlier run had done of the `total`: the bar starts there, and its speed and
    estimate count from there. On a terminal the bar redraws itself; in a log file it prints a line
    at the first update after five seconds, and one at the end, since carriage returns make a log
    unreadable. So it moves every ten seconds where no update takes longer than five.
    """
    options: dict[str, Any] = {
        "desc": label,
        "total": total,
        "initial": done,
        "unit": unit,
        "unit_scale": True,
    }
    if not sys.stderr.isatty():
        options |= {
            "file": _LogLines(),
            "mininterval": SECONDS_BETWEEN_LOG_LINES,
            "miniters": 1,
            "ascii": True,
            "ncols": 100,
        }
    return tqdm(iterable, **options)
