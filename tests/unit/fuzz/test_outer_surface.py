"""What a user sees of a mistake: one line of `glossogenesis` or `snakemake`, no traceback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from glossogenesis.cli import app
from glossogenesis.workflow import plan
from support.hostile_content import NAMES, YAML_TRICKS, yaml_bombs
from support.hostile_pickles import torch_pickle
from support.tiny_study import STUDY, change_study, replace, write_tiny_study
from support.working_tree import ROBUSTNESS_STUDY, copy_of_repository

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a tiny study, which is the working directory; nothing plans it."""
    write_tiny_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "jobs_of", lambda study: [])
    return tmp_path


def assert_one_line(*command: str, refused: bool | None = True) -> None:
    """Run the command; where it refuses, it says so in one line; `refused` says if it must."""
    done = CliRunner().invoke(app, list(command))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert refused is None or (done.exit_code != 0) == refused, done.output
    if done.exit_code == 1:
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        assert done.stderr.strip().isprintable()


@pytest.mark.parametrize("command", ["plan", "purge"])
@pytest.mark.parametrize("trick", YAML_TRICKS)
def test_tricks_of_yaml(folder: Path, command: str, trick: str) -> None:
    content = trick.format(STUDY).encode("utf-8", "surrogatepass")
    (folder / "study.yaml").write_bytes(content)
    means_the_same = ("\ufeff{}", "{}\nstudy: again\n", "{}\n<<: {{study: merged}}\n", "--- {}\n")
    refused = None if trick in means_the_same else True
    assert_one_line(command, "--configfile", "study.yaml", refused=refused)
    assert not (folder / "marker").exists()


@pytest.mark.parametrize("number", range(len(yaml_bombs())))
def test_short_files_that_stand_for_too_much(folder: Path, number: int) -> None:
    with (folder / "study.yaml").open("a", encoding="utf-8") as file:
        file.write(yaml_bombs()[number])
    assert_one_line("plan", "--configfile", "study.yaml")


@pytest.mark.parametrize("name", [name for name in NAMES if "\0" not in name])
@pytest.mark.parametrize("command", ["inspect", "plan", "purge"])
def test_names_on_the_command_line(folder: Path, command: str, name: str) -> None:
    option = [] if command == "inspect" else ["--configfile"]
    # What begins with a dash is an option, unless it follows `--`.
    before = [] if option else ["--"]
    assert_one_line(command, *before, *option, name, refused=None)


def test_a_folder_and_a_file_without_leave_to_read(folder: Path) -> None:
    assert_one_line("plan", "--configfile", str(folder))
    (folder / "sheet.tsv").unlink()
    (folder / "sheet.tsv").mkdir()
    assert_one_line("plan", "--configfile", "study.yaml")
    (folder / "loop.parquet").symlink_to("loop.parquet")
    assert_one_line("inspect", "loop.parquet")
    assert_one_line("inspect", ".", refused=False)


def test_columns_that_a_terminal_would_obey_are_shown(folder: Path) -> None:
    (folder / "table.csv").write_text("a\x1b[2J,b\nx\x1b]0;title\x07,\x9b2J\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["inspect", "table.csv"])
    assert done.exit_code == 0
    assert r"\x1b[2J" in done.output
    assert not set(done.output) & {"\x1b", "\x07", "\x9b"}


def printed_by(*command: str, cwd: Path) -> str:
    """Run a module as users do; it must fail. Return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_the_command_itself(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(torch_pickle(tmp_path / "mark"))
    (tmp_path / "bad.yaml").write_text('"\\ud800\\e[2J": 1\n', encoding="utf-8")
    for command in (
        ["inspect", "a.safetensors"],
        ["inspect", "none\udcff.parquet"],
        ["plan", "--configfile", "bad.yaml"],
    ):
        printed = printed_by("glossogenesis.cli", *command, cwd=tmp_path)
        assert printed.startswith("Error: ")
        assert printed.count("\n") == 1
        assert printed.strip().isprintable()
    assert not (tmp_path / "mark").exists()


MISTAKES: dict[str, Callable[[Path], object]] = {
    "a key that leads out": lambda folder: change_study(
        folder, lambda s: s["models"].update({"../x": {}})
    ),
    "a folder of results": lambda folder: change_study(
        folder, lambda s: s.update(pathvars={"results": "{model}"})
    ),
    "a subfolder that leads out": lambda folder: replace(
        folder / "sheet.tsv", "./weights/late\t\t", "org/model\t\t../../x"
    ),
    "a number without end": lambda folder: replace(
        folder / "study.yaml", "items: 6", f"items: 0x{'f' * 9000}"
    ),
    "a sheet of another encoding": lambda folder: (folder / "sheet.tsv").write_bytes(b"\xff\xfe\0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_snakemake_itself(tmp_path: Path, mistake: str) -> None:
    write_tiny_study(tmp_path)
    MISTAKES[mistake](tmp_path)
    snakefile = ["--snakefile", str(REPOSITORY / "Snakefile")]
    study = ["--configfile", str(tmp_path / "study.yaml")]
    printed = printed_by("snakemake", "--dry-run", *snakefile, *study, cwd=tmp_path)
    assert "Traceback" not in printed
    assert printed.count("Error") == 1
    (line,) = [
        line for line in printed.splitlines() if re.match(r"\S*(study.yaml|sheet.tsv)", line)
    ]
    assert line.isprintable()


HOSTILE = 'it\'s "here"; touch hacked; $(touch hacked) `touch hacked` & *'


def test_names_of_folders_are_no_commands(tmp_path: Path) -> None:
    """A job runs where the workflow, the study, its files and its results have such names."""
    tree = copy_of_repository(tmp_path / f"workflow {HOSTILE}")
    folder = tree.root / f"study {HOSTILE}"
    folder.mkdir()
    study = yaml.safe_load(ROBUSTNESS_STUDY)
    posts = study["robustness"]["posts"]["text"]
    for key in ("communities", "spellings"):
        shutil.copy(tree.root / posts[key], folder / f"{key} {HOSTILE}.tsv")
        posts[key] = f"{key} {HOSTILE}.tsv"
    shutil.copy(tree.root / "robustness.tsv", folder / f"sheet {HOSTILE}.tsv")
    (folder / "resources").symlink_to(tree.root / "resources")
    study["checkpoints"] = f"sheet {HOSTILE}.tsv"
    study["pathvars"] = {"results": f"results {HOSTILE}", "logs": f"logs {HOSTILE}"}
    file = folder / f"study {HOSTILE}.yaml"
    file.write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")
    made = tree.root / f"results {HOSTILE}" / "posts" / "posts.parquet"
    tree.snakemake("--cores", "1", "--", str(made.relative_to(tree.root)), study=str(file))
    assert made.is_file()
    assert not list(tmp_path.rglob("hacked"))
