"""What a study will take before it starts: jobs, hours and disk, from a dry run and `costs`."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.study.section import is_local
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs, stages_features, stages_robustness
from glossogenesis.workflow.costs import Cost

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

PENDING = "update pending"

NUMBER = re.compile(r"_[0-9]+$")
"""End of the name of a rule that differs from another in its outputs alone."""

LAYER = re.compile(r"^layer_[0-9]+$")

FILES_OF_A_LAYER = {
    "extract_activations": 1,
    "extract_post_activations": 1,
    "train_saes": 3,
    "measure_quality": 1,
    "compare_seeds": 1,
    "collect_features": 3,
    "match_features": 1,
    "train_post_saes": 3,
    "collect_label_features": 4,
}
"""Rules whose jobs write several layers, each a folder, and the number of files in each."""

OF_ALL_LAYERS = ("recovery", "knockout", "spelling_variants")
"""Folders of tables that hold all layers of one autoencoder, whose name is the file's."""

COST_OF_STUDY: Mapping[str, Callable[[Study], Cost]] = {
    "inject_features": stages_features.injection_cost,
    "prepare_posts": stages_robustness.posts_cost,
    "train_baseline": stages_robustness.baseline_cost,
}
COST_OF_MODEL: Mapping[str, Callable[[Study, str], Cost]] = {
    "pretrain_model": costs.pretraining_cost,
    "fetch_checkpoint": costs.checkpoint_cost,
    "extract_states": costs.states_cost,
    "patch_translations": costs.patching_cost,
    "prepare_corpus": stages_features.corpus_cost,
    "extract_activations": stages_features.activations_cost,
    "extract_embeddings": stages_features.embeddings_cost,
    "tokenise_posts": stages_robustness.posts_cost,
    "finetune_classifier": stages_robustness.finetuning_cost,
    "classify_posts": stages_robustness.classification_cost,
    "select_pairs": stages_robustness.pairs_cost,
    "patch_components": stages_robustness.components_cost,
    "ablate_circuit": stages_robustness.circuit_cost,
    "extract_post_activations": stages_robustness.post_activations_cost,
}
COST_OF_SAE: Mapping[str, Callable[[Study, str, str], Cost]] = {
    "measure_recovery": stages_features.recovery_cost,
    "train_post_saes": stages_robustness.post_training_cost,
    "collect_label_features": stages_robustness.label_features_cost,
    "knock_out_features": stages_robustness.knockout_cost,
    "measure_variants": stages_robustness.variants_cost,
}
COST_OF_LAYERS: Mapping[str, Callable[[Study, str, str, int], Cost]] = {
    "train_saes": stages_features.training_cost,
    "measure_quality": stages_features.quality_cost,
    "compare_seeds": stages_features.seeds_cost,
    "collect_features": stages_features.collection_cost,
    "match_features": stages_features.matching_cost,
}


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


@dataclass(frozen=True)
class Job:
    """One job of the study."""

    rule: str
    name: str
    """The model, the pretraining or the corpus that its outputs' paths name."""
    folder: str
    """The folder of its outputs, which tells apart the jobs of a rule."""
    is_pending: bool
    outputs: int = 1
    """Output files."""
    sae: str = ""
    """The autoencoder, where its outputs are of one."""


def read_jobs(summary: str, results: Path) -> list[Job]:
    """Return the jobs of a table that `snakemake --summary` printed, one row an output file.

    Outputs lie in `<results>/<stage>/<model>/...`; those of one job share their folder, but for
    the layers of a job that writes several.
    """
    rows = csv.DictReader(summary.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    jobs: dict[tuple[str, str, str], Job] = {}
    for row in rows:
        file = Path(os.path.relpath(row["output_file"], results))
        rule = NUMBER.sub("", row["rule"])
        parts = file.parent.parts
        if rule in FILES_OF_A_LAYER:
            parts = tuple(part for part in parts if not LAYER.match(part))
        folder = Path(*parts)
        sae = _sae_of(file)
        key = (row["rule"], str(folder), sae)
        known = jobs.get(key)
        jobs[key] = Job(
            rule,
            name=file.parts[1] if len(file.parts) > 2 else "",
            folder=str(folder),
            is_pending=row["plan"] == PENDING or (known is not None and known.is_pending),
            outputs=1 if known is None else known.outputs + 1,
            sae=sae,
        )
    return list(jobs.values())


def _sae_of(file: Path) -> str:
    """Return the autoencoder that an output is of, empty where it is of none."""
    parts = file.parts
    if parts[0] in OF_ALL_LAYERS:
        return file.stem
    return parts[-2] if len(parts) > 4 and LAYER.match(parts[-3]) else ""


def cost_of(study: Study, job: Job) -> Cost:
    """Return what a job takes; rules without a model are light."""
    if job.rule in COST_OF_STUDY:
        return COST_OF_STUDY[job.rule](study)
    if job.rule in COST_OF_MODEL:
        return COST_OF_MODEL[job.rule](study, job.name)
    if job.rule in COST_OF_SAE:
        return COST_OF_SAE[job.rule](study, job.name, job.sae)
    if job.rule in COST_OF_LAYERS:
        layers = job.outputs // FILES_OF_A_LAYER[job.rule]
        return COST_OF_LAYERS[job.rule](study, job.name, job.sae, layers)
    return costs.light_cost(study)
