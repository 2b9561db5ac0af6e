"""Stages of the concepts study."""

from __future__ import annotations

from collections.abc import Iterator

from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from glossogenesis.workflow import jobs_concepts as jobs
from glossogenesis.workflow.stages import Artifact, Setup, Stage
from glossogenesis.workflow.stages_checkpoints import (
    CHECKPOINT,
    figures_stage,
    once,
    own_weights,
    setups_of,
    tables,
    without_estimate,
)


def _models(study: Study) -> Iterator[Setup]:
    for model in study.models_of("concepts"):
        yield {"model": model}


def _checkpoints(study: Study) -> Iterator[Setup]:
    return setups_of(study.rows_of("concepts"))


def _has_several_trainings(study: Study) -> bool:
    return bool(study.several_trainings())


def _figures(study: Study) -> Iterator[Setup]:
    for model in study.models_of("concepts"):
        for name in FIGURES:
            yield {"figure": f"{model}/{name}"}


FIGURES = {
    "unpatched_accuracy": "accuracy without patching",
    "patched_accuracy": "accuracy of patched settings",
    "start_layers": "accuracy over start layer",
    "concepts_differences": "differences of settings and checkpoints",
    "outcomes": "outcomes",
}
"""Figures of one model, and what the report calls them."""

# fmt: off
STAGES = (
    Stage(
        "write_prompts", "prompts", "prompts/{model}", _models,
        {"prompts": Artifact("translation.parquet", "prompts of a model with their tokens")},
        jobs.prompts_settings, without_estimate(30),
    ),
    Stage(
        "extract_states", "states", f"concepts/{CHECKPOINT}", _checkpoints,
        {"states": Artifact("states.safetensors", "source states of a checkpoint")},
        jobs.states_settings, costs.states_cost, gpu=True, weights=own_weights,
    ),
    Stage(
        "patch_translations", "patching", f"concepts/{CHECKPOINT}", _checkpoints,
        {
            "patching": Artifact(
                "patching.parquet", "answers of a checkpoint, patched and unpatched"
            ),
        },
        jobs.patching_settings, costs.patching_cost, gpu=True, weights=own_weights,
    ),
    Stage(
        "tabulate_concepts", "{stem}", "tables", once,
        tables(
            "concepts",
            accuracy="accuracies of all checkpoints",
            outcomes="outcomes of all checkpoints",
            pooled="shares over several language pairs, of all checkpoints",
            probability="first-token probabilities of all checkpoints",
            comparisons="comparisons of settings and checkpoints",
        )
        | tables(
            "concepts", where=_has_several_trainings,
            trainings="differences between trainings of one model",
        ),
        jobs.table_settings, without_estimate(60), copies=(".csv",),
    ),
    figures_stage("concepts", _figures, jobs.figure_settings),
)
