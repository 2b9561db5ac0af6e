"""What a study will take before it starts: jobs, hours and disk, from a dry run and `costs`."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from glossogenesis.workflow.registry import STAGES, stage_of_rule
from glossogenesis.workflow.stages import Stage, cost_of

PENDING = "update pending"


@dataclass(frozen=True)
class RulePlan:
    """What the pending jobs of one rule take together."""

    rule: str
    pending: int
    total: int
    hours: float
    longest_hours: float
    gpu_hours: float
    """Hours times GPUs."""
    cpu_hours: float
    """Hours of jobs that ask for no GPU."""
    results_bytes: int
    download_bytes: int
    memory_mb: int
    """The largest that a job asks for."""


@dataclass(frozen=True)
class Plan:
    """What a study will take, one row per rule in the order in which they run."""

    rules: tuple[RulePlan, ...]

    @property
    def pending(self) -> int:
        """Jobs to run."""
        return sum(rule.pending for rule in self.rules)

    @property
    def gpu_hours(self) -> float:
        """Hours times GPUs."""
        return sum(rule.gpu_hours for rule in self.rules)

    @property
    def cpu_hours(self) -> float:
        """Hours of jobs that ask for no GPU."""
        return sum(rule.cpu_hours for rule in self.rules)

    @property
    def results_bytes(self) -> int:
        """Bytes that the results folder grows by."""
        return sum(rule.results_bytes for rule in self.rules)

    @property
    def download_bytes(self) -> int:
        """Bytes of weights that come from the Hub."""
        return sum(rule.download_bytes for rule in self.rules)


def jobs_of(study: Study) -> list[Job]:
    """Return the jobs of a study from a dry run of its workflow; StudyError where that fails."""
    return read_jobs(_summary(study.file), results_folder(study))


def plan_jobs(study: Study, jobs: Sequence[Job]) -> Plan:
    """Return what the pending jobs take."""
    by_stage: dict[str, list[Job]] = {name: [] for name in STAGES}
    for job in jobs:
        by_stage[job.stage.name].append(job)
    return Plan(
        tuple(_rule_plan(study, STAGES[name], own) for name, own in by_stage.items() if own)
    )


def results_folder(study: Study) -> Path:
    """Return the folder that the study's outputs go to."""
    return Path(study.settings.pathvars.get("results", "results")).expanduser()


def download_folder(study: Study) -> Path:
    """Return the folder that checkpoints are downloaded to.

    It is huggingface_hub's own, as its environment variables say, unless downloads are removed.
    """
    if not study.settings.hub.keep_downloads:
        return results_folder(study) / "downloads"
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()


def disk_warnings(plan: Plan, results: Path, downloads: Path | None) -> list[str]:
    """Return a line for each disk that is too small for what the study will put there.

    `downloads` is None where they do not stay.
    """
    needs = [("results", results, plan.results_bytes)]
    if downloads is not None:
        needs.append(("downloads", downloads, plan.download_bytes))
    on_disk: dict[int, list[tuple[str, Path, int]]] = {}
    for what, folder, needed in needs:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        on_disk.setdefault(existing.stat().st_dev, []).append((what, existing, needed))
    lines = []
    for parts in on_disk.values():
        needed = sum(part[2] for part in parts)
        free = shutil.disk_usage(parts[0][1]).free
        if needed > free:
            lines.append(
                f"{' and '.join(part[0] for part in parts if part[2])} will take "
                f"{needed / 1e9:.1f} GB, but the disk of {parts[0][1].absolute()} has "
                f"{free / 1e9:.1f} GB free; make room, or set `pathvars.results` in the study or "
                "the variable HF_HOME to a larger disk"
            )
    return lines


def _summary(study_file: Path) -> str:
    """Run `snakemake --summary`, which runs nothing, and return its table."""
    here = Path("Snakefile")
    snakefile = here if here.is_file() else SCRIPTS.parent / "Snakefile"
    if not snakefile.is_file():
        raise StudyError("no Snakefile here; run this in the folder that holds the workflow")
    command = [sys.executable, "-m", "snakemake", "--summary", "--snakefile", str(snakefile)]
    with _nothing_left(Path(".snakemake")):
        done = subprocess.run(
            [*command, "--configfile", str(study_file)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
    if done.returncode:
        printed = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
        raise StudyError(f"the dry run of {study_file} failed: {printed[-1].strip()}")
    table = done.stdout.partition("output_file\t")
    return "".join(table[1:])


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """Remove what a dry run leaves in a folder where nothing has run."""
    existed = folder.exists()
    yield
    # A run that began in the meantime has locks or records of its jobs.
    of_runs = ("locks", "metadata", "incomplete")
    if not existed and not any(any((folder / name).glob("*")) for name in of_runs):
        shutil.rmtree(folder, ignore_errors=True)


def not_here(study: Study, results: Path) -> str | None:
    """Return a line where a study has not run in this folder; None where its results are here."""
    if any((results / "runs").glob(f"{study.name}-*")):
        return None
    what = "no results of it" if results.is_dir() else "no such folder"
    return (
        f"{results.absolute()}: {what}: study {study.name!r} has not run in this folder; run the "
        "command where you run snakemake"
    )


def _rule_plan(study: Study, stage: Stage, jobs: Sequence[Job]) -> RulePlan:
    pending = [cost_of(stage, study, job.setup, job.layers) for job in jobs if job.is_pending]
    written = sum(cost.disk_bytes for cost in pending)
    downloads = stage.name == "fetch_checkpoint"
    return RulePlan(
        rule=stage.name,
        pending=len(pending),
        total=len(jobs),
        hours=sum(cost.hours for cost in pending),
        longest_hours=max((cost.hours for cost in pending), default=0.0),
        gpu_hours=sum(cost.hours * cost.gpus for cost in pending),
        cpu_hours=sum(cost.hours for cost in pending if cost.gpus == 0),
        results_bytes=0 if downloads else written,
        download_bytes=written if downloads else 0,
        memory_mb=max((cost.requested_memory_mb() for cost in pending), default=0),
    )


def assumptions(study: Study) -> list[str]:
    """Return what the estimate rests on, a line each."""
    lines = [
        f"{costs.GPU_OPERATIONS / 1e12:.0f} trillion operations a second on a GPU, "
        f"{costs.CPU_OPERATIONS / 1e9:.0f} billion without one; 2 operations a weight and token, "
        "6 in training",
        f"weights are read at {costs.READ_BYTES / 1e6:.0f} MB a second; "
        f"{costs.TOKENS_PER_LINE} tokens a prompt line",
        "hours are of computing; waiting in a queue comes on top, and jobs of a stage run at the "
        "same time where there is room",
    ]
    guessed = [
        model
        for model in study.models
        if study.checkpoints_of(model)[0].pretrained_by is None and _has_open_layers(study)
    ]
    if guessed:
        lines.append(
            f"the number of layers of {', '.join(guessed)} is estimated from `parameters`; it is "
            "read from the model when it runs"
        )
    if any(row.is_on_hub for row in study.sheet):
        is_kept = study.settings.hub.keep_downloads
        stay = "" if is_kept else ", where weights are removed as soon as they are used"
        lines.append(f"downloads go to {download_folder(study)}{stay}")
    return lines


def _has_open_layers(study: Study) -> bool:
    concepts = study.settings.concepts
    return concepts is not None and "all" in (concepts.start_layers, concepts.generate_at)


@dataclass(frozen=True)
class Job:
    """One job of the study."""

    stage: Stage
    setup: Mapping[str, str]
    """Wildcards of its outputs, without their layers."""
    is_pending: bool
    layers: int = 1
    """How many layers it does."""


def read_jobs(summary: str, results: Path) -> list[Job]:
    """Return the jobs of a table that `snakemake --summary` printed, one row an output file."""
    rows = csv.DictReader(summary.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    layers: dict[tuple[str, ...], set[str | None]] = {}
    jobs: dict[tuple[str, ...], Job] = {}
    for row in rows:
        stage = stage_of_rule(row["rule"])
        setup = stage.setup_of(os.path.relpath(row["output_file"], results))
        assert setup is not None, f"{row['output_file']} is no output of {stage.name}"
        setup.pop("figure", None)
        layer = setup.pop("layer", None)
        key = (row["rule"], *setup.values())
        layers.setdefault(key, set()).add(layer)
        is_pending = row["plan"] == PENDING or (key in jobs and jobs[key].is_pending)
        jobs[key] = Job(stage, setup, is_pending, len(layers[key]))
    return list(jobs.values())
