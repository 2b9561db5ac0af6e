"""Temporary files of killed processes are removed at the next attempt; living ones keep theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glossogenesis.storage.files import A_DAY, atomic_path, write_text

WRITER = """
import sys, time
from glossogenesis.storage.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "table.parquet"


def made_old(path: Path) -> None:
    """Let a file look as if nobody had written to it for long."""
    long_ago = time.time() - 2 * A_DAY
    os.utime(path, (long_ago, long_ago))


def test_what_a_killed_process_left_is_removed_once_it_is_dead(target: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(target)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "workflow_scripts")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        left = Path(writer.stdout.readline().strip())
        made_old(left)
        write_text(target, "first")
        assert left.exists(), "a living process lost its file"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    write_text(target, "second")
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_what_another_machine_left_is_removed_when_nobody_writes_to_it(target: Path) -> None:
    path = target.parent / f".{target.name}.another.1.abc.part"
    path.touch()
    write_text(target, "first")
    assert path.exists()
    made_old(path)
    write_text(target, "second")
    assert not path.exists()


def test_files_of_other_targets_stay(target: Path) -> None:
    with atomic_path(target.parent / "other.parquet") as other:
        made_old(other)
        write_text(target, "whole")
        assert other.exists()
