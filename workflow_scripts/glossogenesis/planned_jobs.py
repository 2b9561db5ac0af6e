"""The jobs of a study, read from a dry run of its workflow, and what each of them costs."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.study.study import Study
from glossogenesis.workflow import costs, stages_features, stages_robustness
from glossogenesis.workflow.costs import Cost

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
