"""The command `glossogenesis`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from glossogenesis import __version__
from glossogenesis.cli import app
from glossogenesis.study.study import Study
from glossogenesis.workflow import plan
from glossogenesis.workflow.plan import Job
from glossogenesis.workflow.registry import STAGES
from support.tiny_features_study import tiny_features_study
from support.tiny_study import tiny_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_inspect_prints_a_table(runner: CliRunner, tmp_path: Path):
    path = tmp_path / "table.parquet"
    pl.DataFrame({"word": ["gato", "perro"]}).write_parquet(path)
    done = runner.invoke(app, ["inspect", str(path), "--rows", "1"])
    assert done.exit_code == 0
    assert "gato" in done.output
    assert "perro" not in done.output


def test_inspect_of_a_missing_file_is_one_line_and_status_1(runner: CliRunner, tmp_path: Path):
    done = runner.invoke(app, ["inspect", str(tmp_path / "missing.parquet")])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == f"Error: {tmp_path / 'missing.parquet'}: no such file or folder\n"


def test_text_in_brackets_is_not_taken_for_markup(runner: CliRunner, tmp_path: Path):
    path = tmp_path / "table.parquet"
    pl.DataFrame({"word": ["[bold]gato[/bold]"]}).write_parquet(path)
    assert "[bold]gato[/bold]" in runner.invoke(app, ["inspect", str(path)]).output


def test_plan_of_the_demo_study(runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def jobs_of(study: Study) -> list[Job]:
        assert study.name == "demo"
        return [Job(STAGES["pretrain_model"], {"pretraining": "demo"}, is_pending=True)]

    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(plan, "jobs_of", jobs_of)
    done = runner.invoke(app, ["plan"])
    assert done.exit_code == 0, done.output
    assert "Study demo, jobs to run: 1" in done.output
    assert "pretrain_model" in done.output


def test_plan_of_a_missing_study_is_one_line_and_status_1(runner: CliRunner, tmp_path: Path):
    done = runner.invoke(app, ["plan", "--configfile", str(tmp_path / "none.yaml")])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: {tmp_path / 'none.yaml'}: no such study file")
    assert done.stderr.count("\n") == 1


def test_version(runner: CliRunner):
    assert runner.invoke(app, ["--version"]).output == f"glossogenesis {__version__}\n"


def test_help_names_the_commands(runner: CliRunner):
    output = runner.invoke(app, ["--help"]).output
    assert "inspect" in output
    assert "plan" in output


def test_starts_without_heavy_imports():
    program = (
        "import sys, glossogenesis.cli; "
        "print([name for name in ('torch', 'polars', 'transformers', 'pydantic', 'snakemake') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(REPOSITORY / "workflow_scripts")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_purge_in_another_folder_says_that_no_study_is_here(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    study = tiny_features_study(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = runner.invoke(app, ["purge", "--configfile", str(study.file)])
    assert done.exit_code == 1
    assert "elsewhere/results: no such folder: study 'tiny' has not run in this" in done.stderr
    (tmp_path / "elsewhere" / "results" / "runs" / "tiny-0123").mkdir(parents=True)
    done = runner.invoke(app, ["purge", "--configfile", str(study.file)])
    assert (done.exit_code, done.output) == (0, "freed 0 bytes of activations\n")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["results"]


def test_plan_in_another_folder_leaves_nothing_and_says_it(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    study = tiny_study(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = runner.invoke(app, ["plan", "--configfile", str(study.file)])
    assert done.exit_code == 0, done.output
    assert "has not run in this folder" in " ".join(done.output.split())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_verify_of_nothing_does_not_pass(runner: CliRunner, tmp_path: Path):
    done = runner.invoke(app, ["verify", str(tmp_path)])
    assert done.exit_code == 1
    assert "holds no artifact to compare; give the folder of a study's results" in done.stderr
