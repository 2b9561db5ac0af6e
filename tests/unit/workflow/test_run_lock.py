"""Leases that end with their holder: of a folder of results, and of one output."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage import files
from glossogenesis.workflow import program

HOLD_RESULTS = (
    "from glossogenesis.workflow.program import claim_results as claim; kept = claim(Path(path))"
)
HOLD_OUTPUT = (
    "from glossogenesis.storage.files import claimed; kept = claimed(Path(path)); kept.__enter__()"
)


@contextmanager
def holder(hold: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until it is killed or the block ends."""
    code = "\n".join(
        (
            "import sys",
            "from pathlib import Path",
            "path = sys.argv[1]",
            hold,
            "print('held', flush=True)",
            "sys.stdin.read()",
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def write_locks(locks: Path, number: int, output: str) -> None:
    locks.mkdir(parents=True, exist_ok=True)
    (locks / f"{number}.input.lock").write_text("config.yaml\n", encoding="utf-8")
    (locks / f"{number}.output.lock").write_text(f"{output}\n", encoding="utf-8")


def test_a_second_run_is_told_who_runs(tmp_path: Path):
    with holder(HOLD_RESULTS, tmp_path) as process:
        with pytest.raises(StudyError, match=f"process {process.pid} on {socket.gethostname()} is"):
            program.claim_results(tmp_path)
        assert program.running_in(tmp_path) == f"process {process.pid} on {socket.gethostname()}"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"file: cannot be written \(File exists\); get leave to"):
        program.claim_results(tmp_path / "file")
    (tmp_path / "results" / program.LOCK_FILE).mkdir(parents=True)
    with pytest.raises(StudyError, match=r"results: cannot be written \(Is a directory\); .*`path"):
        program.claim_results(tmp_path / "results")


def test_a_killed_run_leaves_the_folder_free(tmp_path: Path):
    with holder(HOLD_RESULTS, tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert program.running_in(tmp_path) is None
        program.claim_results(tmp_path).release()


def left_on_another_machine(results: Path) -> None:
    """Leave the lock of a run that another machine started."""
    claim = program.claim_results(results)
    lock = results / program.LOCK_FILE
    marker = lock.read_text("utf-8")
    claim.release()
    lock.write_text(marker.replace(socket.gethostname(), "another"), "utf-8")


def test_a_run_that_was_killed_on_another_machine_says_how_to_go_on(tmp_path: Path):
    left_on_another_machine(tmp_path)
    with pytest.raises(
        StudyError, match=r"on another is .* If it was killed, delete .*driver.lock"
    ):
        program.claim_results(tmp_path)
    (tmp_path / program.LOCK_FILE).unlink()
    program.claim_results(tmp_path).release()


def test_a_job_takes_over_what_a_killed_job_of_another_machine_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(files, "RENEWAL_SECONDS", 0.5)
    left_on_another_machine(tmp_path)
    (tmp_path / program.LOCK_FILE).rename(tmp_path / ".table.parquet.lock")
    with files.claimed(tmp_path / "table.parquet"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_locks_of_a_killed_run_are_removed_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    locks = Path(".snakemake/locks")
    write_locks(locks, 0, "results/prompts/a.parquet")
    write_locks(locks, 1, "elsewhere/prompts/a.parquet")
    with holder(HOLD_RESULTS, Path("results")):
        pass
    assert program.remove_stale_locks(Path("results"), locks) == 1
    assert sorted(path.name for path in locks.iterdir()) == ["1.input.lock", "1.output.lock"]


def test_locks_of_a_live_run_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    locks = Path(".snakemake/locks")
    write_locks(locks, 0, "results/prompts/a.parquet")
    with holder(HOLD_RESULTS, tmp_path / "results"):
        assert program.remove_stale_locks(Path("results"), locks) == 0
    assert len(list(locks.iterdir())) == 2


def test_locks_of_a_run_on_another_host_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whether that run lives cannot be known from here."""
    monkeypatch.chdir(tmp_path)
    locks = Path(".snakemake/locks")
    write_locks(locks, 0, "results/prompts/a.parquet")
    left_on_another_machine(Path("results"))
    assert program.remove_stale_locks(Path("results"), locks) == 0


def test_a_folder_without_results_is_free(tmp_path: Path):
    assert program.running_in(tmp_path / "none") is None
    assert program.remove_stale_locks(tmp_path / "none", tmp_path) == 0
    assert not (tmp_path / "none").exists()


def test_a_job_waits_for_the_one_that_makes_its_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "folder" / "table.parquet"
    with holder(HOLD_OUTPUT, output) as process:
        # Its holder is killed as soon as the wait begins, which the printed line tells.
        waiting = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys\nfrom pathlib import Path\n"
                "from glossogenesis.storage.files import claimed\n"
                "with claimed(Path(sys.argv[1])): print('made', flush=True)",
                str(output),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdout is not None
        holds = f"process {process.pid} on {socket.gethostname()}"
        said = f"Waiting for {holds}, which is making {output.parent}; if it was killed"
        assert waiting.stdout.readline().startswith(said)
        assert waiting.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert waiting.communicate(timeout=60)[0] == "made\n"
    assert list(output.parent.iterdir()) == []


def test_the_lock_of_an_output_is_removed_where_making_it_fails(tmp_path: Path):
    with pytest.raises(ValueError, match="no"), files.claimed(tmp_path / "table.parquet"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
