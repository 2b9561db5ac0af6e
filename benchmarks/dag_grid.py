"""A copy of the workflow with the shipped grid of checkpoints in any size, planned and finished."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from glossogenesis.study.frozen import freeze
from glossogenesis.study.sheet import read_sheet

REPOSITORY = Path(__file__).parents[1]
COPIED = ("Snakefile", "config.yaml", "rules", "workflow_scripts", "resources", "envs")
STUDY = "resources/studies/inaba2025.yaml"

LAYERS = {
    "llm-jp-3-150m": 12,
    "llm-jp-3-440m": 16,
    "llm-jp-3-980m": 20,
    "llm-jp-3-1.8b": 24,
    "llm-jp-3-3.7b": 28,
}
"""Layers of the study's models."""

CHECKPOINTS = {
    100: {"llm-jp-3-150m": 3, "llm-jp-3-440m": 1, "llm-jp-3-1.8b": 2},
    1572: {**dict.fromkeys(LAYERS, 16), "llm-jp-3-3.7b": 15},
    10_000: dict.fromkeys(LAYERS, 100),
}
"""Checkpoints of each model by the number of setups; 1,572 are those of the paper."""

BLOCKS = {**dict.fromkeys(LAYERS, 1), "llm-jp-3-3.7b": 2}
"""Jobs that train a checkpoint's layers; as many collect their features, or match them."""

INJECTED = "llm-jp-3-1.8b"
"""The model that the study injects features in, whose last checkpoint they come from."""

AGGREGATES = Counter(
    tabulate_features=1, tabulate_tracking=1, tabulate_injection=1, plot_features=1
)
"""Tables, and the figures drawn from them."""

ADDED = "added"
"""Name of the checkpoint that `Grid.add_checkpoint` adds."""


@dataclass(frozen=True)
class Run:
    """One run of Snakemake."""

    seconds: float
    cpu_seconds: float
    """Of user and system; unlike `seconds`, hardly moved by waiting for other programs."""
    megabytes: float
    """Peak of resident memory."""
    printed: str

    @property
    def jobs(self) -> Counter[str]:
        """Jobs that a dry run plans, by rule, without target rules."""
        table = self.printed.rpartition("\njob ")[2].partition("\ntotal")[0]
        counts = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
        counts.pop("all", None)
        return Counter(counts)


@dataclass(frozen=True)
class Grid:
    """A working tree whose study is the shipped one with a sheet of its own."""

    root: Path
    study: str = "grid.yaml"
    sheet: str = "grid.tsv"

    def plan(self, *arguments: str) -> Run:
        """Plan the study, as `snakemake --dry-run` does."""
        return self._run([sys.executable, "-m", "snakemake", "--dry-run", *arguments])

    def finish(self) -> Run:
        """Put a stand-in for every output, and let Snakemake record that its job made it."""
        program = Path(__file__).with_name("dag_stand_ins.py")
        arguments = ["--touch", "--forceall", "--no-hooks", "--quiet", "all", "--cores", "1000"]
        return self._run([sys.executable, str(program), *arguments, "--scheduler", "greedy"])

    def start_job(self, rule: str, **wildcards: str | int) -> Run:
        """Start one job as an executor does on a node; its program is a stand-in too."""
        programs = self.root / "stand-ins"
        programs.mkdir(exist_ok=True)
        stand_in = programs / "python"
        stand_in.write_text(STAND_IN, encoding="utf-8")
        stand_in.chmod(0o755)
        values = ",".join(f"{name}={value}" for name, value in wildcards.items())
        command = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile"]
        command += ["--target-jobs", f"{rule}:{values}", "--allowed-rules", rule]
        command += ["--mode", "remote", "--cores", "1", "--force", "--nolock", "--no-hooks"]
        command += ["--ignore-incomplete", "--max-inventory-time", "0", "--latency-wait", "0"]
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return self._run(command, study=self._frozen(), PATH=path)

    def _frozen(self) -> str:
        """Write the copy of the study that a run's jobs read; see rules/runs.smk."""
        content = yaml.safe_load((self.root / self.study).read_text(encoding="utf-8"))
        sheet = read_sheet(self.root / self.sheet)
        results = self.root / "results"
        frozen = freeze(content, content["study"], Path(self.study), sheet, results)
        frozen.write()
        return str(frozen.file)

    def add_checkpoint(self, model: str) -> None:
        """Add a checkpoint before the model's last one, as the shipped sheet asks for."""
        file = self.root / self.sheet
        lines = file.read_text(encoding="utf-8").splitlines()
        last = max(place for place, line in enumerate(lines) if line.startswith(f"{model}\t"))
        lines.insert(last, _row(model, ADDED, 10**6))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _run(self, command: Sequence[str], study: str | None = None, **variables: str) -> Run:
        """Run a program in the tree; RuntimeError with what it printed where it fails."""
        scripts = str(self.root / "workflow_scripts")
        printed = self.root / "printed.txt"
        start = time.perf_counter()
        with printed.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*command, "--configfile", study or self.study],
                cwd=self.root,
                env={**os.environ, "PYTHONPATH": scripts, **variables},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        text = printed.read_text(encoding="utf-8")
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{text[-3000:]}")
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, text)


STAND_IN = """\
#!/bin/sh
# Stands for a program: writes its outputs, and takes no time.
while [ $# -gt 0 ]; do
  case "$1" in
    --output) writes=yes ;;
    --*) writes= ;;
    *) [ -n "$writes" ] && echo stand-in > "$1" ;;
  esac
  shift
done
exit 0
"""


def make_grid(root: Path, checkpoints: Mapping[str, int]) -> Grid:
    """Copy the workflow to `root`, with a sheet of so many checkpoints of each model."""
    root.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, root / name, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy2(source, root / name)
    grid = Grid(root)
    study = (REPOSITORY / STUDY).read_text(encoding="utf-8")
    study = re.sub(r"(?m)^checkpoints: .*", f"checkpoints: {grid.sheet}", study)
    (root / grid.study).write_text(study, encoding="utf-8")
    rows = [
        _row(model, f"step{step:04d}", step)
        for model, number in checkpoints.items()
        for step in range(number)
    ]
    header = "model\tcheckpoint\tstep\tsource\trevision"
    (root / grid.sheet).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return grid


def _row(model: str, checkpoint: str, step: int) -> str:
    return f"{model}\t{checkpoint}\t{step}\tllm-jp/{model}\t{checkpoint}"


def expected_jobs(checkpoints: Mapping[str, int]) -> Counter[str]:
    """Return the jobs of a fresh study by stage: those of its setups, and the aggregates."""
    jobs = AGGREGATES + Counter(prepare_corpus=1, extract_embeddings=len(checkpoints))
    for model, number in checkpoints.items():
        jobs += Counter({stage: number * count for stage, count in _of_checkpoint(model).items()})
        jobs["match_features"] += (number - 1) * BLOCKS[model]
    jobs["inject_features"] += checkpoints[INJECTED] - 1
    return +jobs


def expected_after_adding(model: str, checkpoints: Mapping[str, int]) -> Counter[str]:
    """Return the jobs that a checkpoint added before a finished model's last one costs.

    Its own, among them the matches with both of its neighbours, and the aggregates.
    """
    jobs = AGGREGATES + _of_checkpoint(model)
    jobs["match_features"] = (2 if checkpoints[model] > 1 else 1) * BLOCKS[model]
    jobs["inject_features"] = int(model == INJECTED)
    return +jobs


def _of_checkpoint(model: str) -> Counter[str]:
    return Counter(
        fetch_checkpoint=1,
        extract_activations=1,
        train_saes=BLOCKS[model],
        measure_quality=1,
        measure_recovery=1,
        collect_features=BLOCKS[model],
    )


def by_stage(jobs: Mapping[str, int]) -> Counter[str]:
    """Add up rules that differ in their outputs alone, whose names end in numbers."""
    counts: Counter[str] = Counter()
    for rule, number in jobs.items():
        counts[re.sub(r"_[0-9]+$", "", rule)] += number
    return counts
