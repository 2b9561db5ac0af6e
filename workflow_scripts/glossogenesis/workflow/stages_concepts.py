"""Stages of the concepts study."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from glossogenesis.study.study import Study
from glossogenesis.workflow import costs, jobs_concepts
from glossogenesis.workflow.stages import Artifact, Setup, Stage
from glossogenesis.workflow.stages_checkpoints import (
    once,
    own_weights,
    setups_of,
    without_estimate,
)


def _models(study: Study) -> Iterator[Setup]:
    for model in study.models_of("concepts"):
        yield {"model": model}


def _checkpoints(study: Study) -> Iterator[Setup]:
    return setups_of(study.rows_of("concepts"))


def _figures(study: Study) -> Iterator[Setup]:
    for model in study.models_of("concepts"):
        for name in FIGURES:
            yield {"figure": f"{model}/{name}"}


def _table(name: str, words: str, where: Callable[[Study], bool] | None = None) -> Artifact:
    return Artifact(
        f"tables/concepts_{name}.parquet", words, f"concepts_{name}", (".csv",), where=where
    )


FIGURES = {
    "unpatched_accuracy": "accuracy without patching",
    "patched_accuracy": "accuracy of patched settings",
    "start_layers": "accuracy over start layer",
    "concepts_differences": "differences of settings and checkpoints",
    "outcomes": "outcomes",
}
"""Figures of one model, and what the report calls them."""

STAGES = (
    Stage(
        "write_prompts",
        "concepts",
        outputs={
            "prompts": Artifact(
                "prompts/{model}/translation.parquet",
                "prompts of a model with their tokens",
                "prompts",
            ),
        },
        setups=_models,
        settings=jobs_concepts.prompts_settings,
        cost=without_estimate(30),
    ),
    Stage(
        "extract_states",
        "concepts",
        outputs={
            "states": Artifact(
                "concepts/{model}/{checkpoint}/states.safetensors",
                "source states of a checkpoint",
                "states",
            ),
        },
        setups=_checkpoints,
        settings=jobs_concepts.states_settings,
        cost=costs.states_cost,
        threads="model",
        gpu=True,
        weights=own_weights,
    ),
    Stage(
        "patch_translations",
        "concepts",
        outputs={
            "patching": Artifact(
                "concepts/{model}/{checkpoint}/patching.parquet",
                "answers of a checkpoint, patched and unpatched",
                "patching",
            ),
        },
        setups=_checkpoints,
        settings=jobs_concepts.patching_settings,
        cost=costs.patching_cost,
        threads="model",
        gpu=True,
        weights=own_weights,
    ),
    Stage(
        "tabulate_concepts",
        "concepts",
        outputs={
            "accuracy": _table("accuracy", "accuracies of all checkpoints"),
            "outcomes": _table("outcomes", "outcomes of all checkpoints"),
            "pooled": _table("pooled", "shares over several language pairs, of all checkpoints"),
            "probability": _table("probability", "first-token probabilities of all checkpoints"),
            "comparisons": _table("comparisons", "comparisons of settings and checkpoints"),
            "trainings": _table(
                "trainings",
                "differences between trainings of one model",
                where=lambda study: bool(study.several_trainings()),
            ),
        },
        setups=once,
        settings=jobs_concepts.table_settings,
        cost=without_estimate(60),
    ),
    Stage(
        "plot_concepts",
        "concepts",
        outputs={
            "svg": Artifact(
                "figures/{figure}.svg",
                "figures of the concepts study, and the numbers drawn in them",
                copies=(".pdf", ".csv"),
            ),
        },
        setups=_figures,
        settings=jobs_concepts.figure_settings,
        cost=without_estimate(15, memory_mb=2000),
        program="plot_figures",
    ),
)
