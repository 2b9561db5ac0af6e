"""What grows with the checkpoint sheet: jobs, and nothing that a single job reads or leaves."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dag_grid import (
    CHECKPOINTS,
    LAYERS,
    Grid,
    by_stage,
    expected_after_adding,
    expected_jobs,
    make_grid,
)
from glossogenesis.workflow.registry import stage_of_rule
from support.working_tree import REPOSITORY, WorkingTree

pytestmark = pytest.mark.slow

SMALL = CHECKPOINTS[100]

SAME_IN_RECORDS = ("rule", "code", "input", "log", "params", "shellcmd", "record_format_version")
"""What a record of an output says of the job that made it, whatever the file holds."""

MOST_OUTPUTS = 3
"""Files that a job may make for each of its layers; see docs/scale.md."""

OF_LAYERS = ("collect_features", "match_features", "measure_quality", "train_saes")
"""Rules whose jobs make files for every setup: model, checkpoint, layer and autoencoder."""


@pytest.fixture(scope="module")
def fresh_grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """The shipped grid with 100 setups, nothing of it made."""
    return make_grid(tmp_path_factory.mktemp("grid") / "tree", SMALL)


@pytest.fixture(scope="module")
def finished_grid(fresh_grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """The grid with a stand-in for every output."""
    root = tmp_path_factory.mktemp("finished") / "tree"
    shutil.copytree(fresh_grid.root, root)
    grid = Grid(root)
    grid.finish()
    return grid


@pytest.fixture
def grid(finished_grid: Grid, tmp_path: Path) -> Grid:
    """A copy of the finished grid that a test may change."""
    root = tmp_path / "tree"
    shutil.copytree(finished_grid.root, root)
    return Grid(root)


def test_fresh_grid_has_the_jobs_of_its_setups(fresh_grid: Grid) -> None:
    assert by_stage(fresh_grid.plan().jobs) == expected_jobs(SMALL)


def test_plan_is_that_of_snakemakes_own_lookup(fresh_grid: Grid, tmp_path: Path) -> None:
    own = make_grid(tmp_path / "tree", SMALL)
    (own.root / "rules" / "job_lookup.smk").write_text("", encoding="utf-8")
    reason = re.compile(r"Job [0-9]+: (.*)\nReason: Missing output files: (.*)")
    planned, expected = (
        {job: set(re.split("[,:;] ", files)) for job, files in reason.findall(run.printed)}
        for run in (fresh_grid.plan(), own.plan())
    )
    assert len(expected) > len(SMALL)
    assert planned == expected


def test_finished_grid_has_nothing_to_do(finished_grid: Grid) -> None:
    assert "Nothing to be done" in finished_grid.plan().printed


@pytest.mark.parametrize("model", ["llm-jp-3-150m", "llm-jp-3-1.8b"])
def test_added_checkpoint_costs_its_own_jobs_and_the_aggregates(grid: Grid, model: str) -> None:
    grid.add_checkpoint(model)
    assert by_stage(grid.plan().jobs) == expected_after_adding(model, SMALL)


def test_a_job_needs_no_more_memory_for_a_sheet_a_hundred_times_as_long(
    grid: Grid, tmp_path: Path
) -> None:
    long = make_grid(tmp_path / "long", CHECKPOINTS[10_000])
    caches = "results/activations/llm-jp-3-150m/step0000/wikipedia"
    saes = "results/sae/llm-jp-3-150m/step0000"
    for layer in range(LAYERS["llm-jp-3-150m"]):
        sae = f"{saes}/layer_{layer}/topk"
        manifest = f"{caches}/layer_{layer}/manifest.json"
        for name in (manifest, f"{sae}/sae_weights.safetensors", f"{sae}/cfg.json"):
            (long.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(grid.root / name, long.root / name)
    setup = {"model": "llm-jp-3-150m", "checkpoint": "step0000", "sae": "topk"}
    short_run, long_run = (one.start_job("measure_quality", **setup) for one in (grid, long))
    assert long_run.megabytes < 1.05 * short_run.megabytes
    made = long.root / saes / "layer_0" / "topk" / "quality.json"
    assert made.read_text(encoding="utf-8") == "stand-in\n"


def test_stand_ins_are_recorded_as_jobs_that_ran(
    finished_features: WorkingTree, tmp_path: Path
) -> None:
    stand_ins = tmp_path / "tree"
    shutil.copytree(
        finished_features.root,
        stand_ins,
        ignore=shutil.ignore_patterns(".snakemake", "results", "logs", "measured"),
    )
    program = REPOSITORY / "benchmarks" / "dag_stand_ins.py"
    arguments = ["--touch", "--forceall", "--no-hooks", "--quiet", "all", "--cores", "2"]
    tree = WorkingTree(stand_ins, finished_features.study)
    subprocess.run(
        [sys.executable, program, *arguments, "--configfile", tree.study], cwd=stand_ins, check=True
    )
    assert "Nothing to be done" in tree.snakemake("--dry-run")
    planted, ran = records_of(stand_ins), records_of(finished_features.root)
    assert planted.keys() == ran.keys()
    for file, record in ran.items():
        assert [planted[file][key] for key in SAME_IN_RECORDS] == [
            record[key] for key in SAME_IN_RECORDS
        ], file


def test_a_job_leaves_no_more_files_than_budgeted(finished_features: WorkingTree) -> None:
    root = finished_features.root
    records = records_of(root)
    outputs_of: dict[str, list[str]] = {}
    for file, record in records.items():
        (log,) = record["log"]
        outputs_of.setdefault(log, []).append(file)
    for log, outputs in outputs_of.items():
        if stage_of_rule(records[outputs[0]]["rule"]).name in OF_LAYERS:
            layers = {Path(output).parent for output in outputs}
            assert len(outputs) <= MOST_OUTPUTS * len(layers), log
    # One log, one benchmark file and one record an output, and nothing else beside them.
    assert {str(path.relative_to(root)) for path in files_in(root / "logs")} == set(outputs_of)
    assert len(files_in(root / "benchmarks" / "measured")) == len(outputs_of)
    kept = files_in(root / ".snakemake", besides=("log", "iocache"))
    assert len(kept) == len(records)
    for stage in ("sae", "features", "tracking"):
        made = {str(path.relative_to(root)) for path in files_in(root / "results" / stage)}
        assert made <= records.keys()


def records_of(root: Path) -> dict[str, dict[str, Any]]:
    """Return Snakemake's records of outputs, by the path of the output."""
    folder = root / ".snakemake" / "metadata"
    return {name_in(folder, file): json.loads(file.read_text()) for file in files_in(folder)}


def name_in(folder: Path, record: Path) -> str:
    """Return the output that a record is of; long names take several folders, marked with @."""
    parts = record.relative_to(folder).parts
    return base64.urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()


def files_in(folder: Path, besides: tuple[str, ...] = ()) -> list[Path]:
    """Return the files in a folder and below it, but for some of its folders."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.relative_to(folder).parts[0] not in besides)
