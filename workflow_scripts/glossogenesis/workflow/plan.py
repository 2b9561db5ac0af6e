"""What a study will take before it starts: jobs, hours and disk, from a dry run and `costs`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.planned_jobs import Job, cost_of, read_jobs
from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.study.section import is_local
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs

STAGES = (
    "pretrain_model",
    "fetch_checkpoint",
    "write_prompts",
    "extract_states",
    "patch_translations",
    "tabulate_concepts",
    "prepare_corpus",
    "extract_activations",
    "extract_embeddings",
    "train_saes",
    "measure_quality",
    "measure_recovery",
    "compare_seeds",
    "collect_features",
    "match_features",
    "inject_features",
    "prepare_posts",
    "tokenise_posts",
    "train_baseline",
    "finetune_classifier",
    "classify_posts",
    "select_pairs",
    "patch_components",
    "ablate_circuit",
    "extract_post_activations",
    "train_post_saes",
    "collect_label_features",
    "knock_out_features",
    "measure_variants",
)
"""Rules in the order in which they run; figures follow."""


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
    """What a study will take, a row a rule in the order in which they run."""

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
    names = dict.fromkeys(job.rule for job in jobs)
    return Plan(tuple(_rule_plan(study, name, jobs) for name in sorted(names, key=_place)))


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


def _rule_plan(study: Study, rule: str, jobs: Sequence[Job]) -> RulePlan:
    own = [job for job in jobs if job.rule == rule]
    pending = [cost_of(study, job) for job in own if job.is_pending]
    written = sum(cost.disk_bytes for cost in pending)
    downloads = rule == "fetch_checkpoint"
    return RulePlan(
        rule=rule,
        pending=len(pending),
        total=len(own),
        hours=sum(cost.hours for cost in pending),
        longest_hours=max((cost.hours for cost in pending), default=0.0),
        gpu_hours=sum(cost.hours * cost.gpus for cost in pending),
        cpu_hours=sum(cost.hours for cost in pending if cost.gpus == 0),
        results_bytes=0 if downloads else written,
        download_bytes=written if downloads else 0,
        memory_mb=max((cost.requested_memory_mb() for cost in pending), default=0),
    )


def _place(rule: str) -> int:
    """Return a rule's place in the table: stages in the order in which they run, then the rest."""
    return STAGES.index(rule) if rule in STAGES else len(STAGES)


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
    if any(row.pretrained_by is None and not is_local(row.source) for row in study.sheet):
        is_kept = study.settings.hub.keep_downloads
        stay = "" if is_kept else ", where weights are removed as soon as they are used"
        lines.append(f"downloads go to {download_folder(study)}{stay}")
    return lines


def _has_open_layers(study: Study) -> bool:
    concepts = study.settings.concepts
    return concepts is not None and "all" in (concepts.start_layers, concepts.generate_at)
