"""Progress in a log file: whole lines, the end among them."""

from __future__ import annotations

import pytest

from glossogenesis import progress as module
from glossogenesis.progress import progress
from support.bar_clock import BarClock, lines_of


def test_a_log_has_lines_and_no_carriage_returns(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), label="prompts", unit="prompt")) == [0, 1, 2]
    printed = capsys.readouterr().err
    assert "\r" not in printed
    assert printed.endswith("\n")
    lines = printed.splitlines()
    assert all(line.startswith("prompts:") for line in lines)
    assert "100%" in lines[-1]
    assert "3.00/3.00" in lines[-1]
    assert len(lines) <= 3


def test_updates_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=10, label="steps") as bar:
        bar.update(4)
        bar.set_postfix(loss=2.5)
        bar.update(6)
    assert "100%" in capsys.readouterr().err.splitlines()[-1]


def test_lines_come_at_most_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in progress(range(5000), label="fast"):
        pass
    assert len(capsys.readouterr().err.splitlines()) <= 3
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOG_LINES", 0)
    for _ in progress(range(50), label="slow"):
        pass
    assert len(capsys.readouterr().err.splitlines()) >= 50


def test_a_resumed_bar_starts_where_the_run_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 of 1000 were done before; 100 in ten seconds now leave half a minute."""
    clock = BarClock(monkeypatch)
    with progress(total=1000, done=600, label="steps") as bar:
        clock.sleep(10)
        bar.update(100)
        clock.sleep(30)
        bar.update(300)
    printed = capsys.readouterr().err
    assert lines_of(printed, "steps") == [(60, 0, None), (70, 10, 30), (100, 40, 0)]
    assert "10.0it/s" in printed


def test_a_log_has_a_line_in_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = BarClock(monkeypatch)
    for _ in progress(range(25), label="prompts"):
        clock.sleep(4)
    seconds = [past for _, past, _ in lines_of(capsys.readouterr().err, "prompts")]
    assert seconds == [0, *range(8, 97, 8), 100]
