"""A clock for progress bars that only a test moves, and the lines that bars print in a log."""

from __future__ import annotations

import re

import pytest

LINE = re.compile(r"(?P<label>.+?): +(?P<percent>\d+)%\|.*\[(?P<past>[\d:]+)<(?P<left>[\d:?]+), ")


class BarClock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("tqdm.std.time", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def lines_of(printed: str, label: str) -> list[tuple[int, int, int | None]]:
    """Percentage, seconds since the bar began and seconds left, of each line of a bar, once."""
    found = [match for match in map(LINE.match, printed.splitlines()) if match]
    lines = [
        (int(line["percent"]), _seconds(line["past"]) or 0, _seconds(line["left"]))
        for line in found
        if line["label"] == label
    ]
    return list(dict.fromkeys(lines))


def _seconds(text: str) -> int | None:
    if text == "?":
        return None
    minutes, seconds = text.split(":")
    return 60 * int(minutes) + int(seconds)
