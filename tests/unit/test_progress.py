"""Progress in a log file: whole lines, the end among them."""

from __future__ import annotations

import pytest

from glossogenesis import progress as module
from glossogenesis.progress import progress


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
