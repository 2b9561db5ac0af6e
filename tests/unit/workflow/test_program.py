"""What every program does alike: arguments, a user's mistakes, and provenance."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import SCRIPTS, file_digest
from glossogenesis.workflow.code_digests import code_digest
from glossogenesis.workflow.program import (
    THREAD_VARIABLES,
    program_arguments,
    provenance_of,
    run_program,
)

COMMAND = ["write_prompts.py", "--study", "demo", "--settings", '{"seed": 1}']


def test_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*COMMAND, "--batch-size", "4", "--output", "a/b"])
    arguments = program_arguments(
        "Do.", batch_size={"type": int}, output={}, extra={"default": None}
    )
    assert arguments.settings == {"seed": 1}
    assert (arguments.study, arguments.batch_size) == ("demo", 4)
    assert arguments.output == Path("a/b")
    assert arguments.extra is None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (COMMAND, "the following arguments are required: --output"),
        ([*COMMAND[:-1], "{half", "--output", "x"], "argument --settings: invalid"),
        ([*COMMAND, "--output", "x", "--colour", "red"], "unrecognized arguments: --colour"),
    ],
)
def test_wrong_arguments(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    expected: str,
) -> None:
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        program_arguments("Do.", output={})
    assert expected in capsys.readouterr().err


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch is loaded already; other libraries read the environment when they are."""
    before = torch.get_num_threads()
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, str(before))
    for words, expected in (["--threads", "3"], 3), ([], 1):
        monkeypatch.setattr(sys, "argv", [*COMMAND, *words])
        assert program_arguments("Do.").threads == expected
        assert torch.get_num_threads() == expected
        assert {os.environ[name] for name in THREAD_VARIABLES} == {str(expected)}
    torch.set_num_threads(before)


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_the_library_says_how_threads_wait_before_torch_is_loaded(script: Path) -> None:
    """OpenMP reads it when PyTorch is loaded, which no script does by itself."""
    for statement in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            loaded = [getattr(statement, "module", None), *(each.name for each in statement.names)]
            assert "torch" not in loaded
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_users_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise StudyError("lexicon.tsv: no such\nlexicon")

    with pytest.raises(SystemExit) as caught:
        run_program(fails)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "Error: lexicon.tsv: no such lexicon\n"


def test_the_programs_own_faults_keep_their_traceback() -> None:
    def fails() -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        run_program(fails)


def test_provenance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", COMMAND)
    (tmp_path / "lexicon.tsv").write_text("words")
    origin = provenance_of(
        program_arguments("Do."), "prompts", {"lexicon": tmp_path / "lexicon.tsv"}, model="m"
    )
    assert (origin.kind, origin.study, origin.model) == ("prompts", "demo", "m")
    assert origin.settings == {"seed": 1}
    assert origin.inputs == {"lexicon": file_digest(tmp_path / "lexicon.tsv")}
    assert origin.code == code_digest("write_prompts")


BLOCK = ["train_saes.py", "--output", "sae/m/c", "--resume-dir"]


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        # Other layers and other kinds of autoencoders are trained beside it, into the same folder.
        ([*BLOCK, "resume/layer_0/topk"], [*BLOCK, "resume/layer_4/topk"], False),
        ([*BLOCK, "resume/layer_0/topk"], [*BLOCK, "resume/layer_0/relu"], False),
        ([*BLOCK, "resume/layer_0/topk"], [*BLOCK, "resume/layer_0/topk"], True),
        (["a.py", "--output", "tables"], ["b.py", "--output", "tables"], False),
        (["a.py", "--output", "figures/cues.svg"], ["a.py", "--output", "figures/cues.svg"], True),
    ],
)
def test_a_program_waits_for_one_that_makes_the_same_and_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    first: list[str],
    second: list[str],
    waits: bool,
) -> None:
    code = "from glossogenesis.workflow.program import run_program\nrun_program(lambda: None)\n"
    (tmp_path / second[0]).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", first)
    started: list[subprocess.Popen[str]] = []

    def main() -> None:
        command = [sys.executable, *second]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(other)
        assert other.stdout is not None
        assert other.stdout.readline().startswith("Waiting for process") == waits

    run_program(main)
    assert started[0].wait(60) == 0
