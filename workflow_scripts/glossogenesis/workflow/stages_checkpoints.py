"""Stages that bring checkpoints into place, and what stages of several studies share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from glossogenesis.study.sheet import Checkpoint
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs, jobs_concepts
from glossogenesis.workflow.costs import Cost
from glossogenesis.workflow.stages import Artifact, Setup, Stage


def pretraining_threads(study: Study, pretraining: str, several: int) -> int:
    """Two, one for each half of a batch, and more in wide models.

    One that waits for nothing comes first, before jobs that would keep it from having so many.
    """
    size = study.size_of(pretraining)
    most = 2 if size is not None and size.hidden < 512 else 8
    starts_first = study.settings.pretrain[pretraining].start is None
    return most if starts_first else min(most, several)


def own_weights(study: Study, setup: Setup) -> list[tuple[str, str]]:
    """The checkpoint that a job's outputs name."""
    return [(setup["model"], setup["checkpoint"])]


def without_estimate(minutes: int, memory_mb: int = costs.LIGHT_MB) -> Callable[[Study], Cost]:
    """The cost of tables, figures and the like: what is asked for, at seconds of computing."""

    def cost(study: Study) -> Cost:
        return Cost(0.0, memory_mb, 0, 0, asked_minutes=minutes)

    return cost


def once(study: Study) -> Iterator[Setup]:
    """The setup of a stage without wildcards."""
    yield {}


def setups_of(rows: Iterable[Checkpoint]) -> Iterator[Setup]:
    """The setups of a stage of checkpoints."""
    for row in rows:
        yield {"model": row.model, "checkpoint": row.checkpoint}


def _start_weights(study: Study, setup: Setup) -> list[tuple[str, str]]:
    start = study.settings.pretrain[setup["pretraining"]].start
    return [] if start is None else [(start.model, start.checkpoint)]


def _removable(study: Study) -> Iterator[Setup]:
    if study.settings.hub.keep_downloads:
        return iter(())
    return setups_of(row for row in study.sheet if row.is_on_hub)


STAGES = (
    Stage(
        "pretrain_model",
        "checkpoints",
        outputs={
            "manifest": Artifact(
                "pretraining/{pretraining}/manifest.json",
                "manifest of a pretraining run",
                "pretraining",
            ),
            "training": Artifact(
                "pretraining/{pretraining}/training.parquet",
                "loss and learning rate of a pretraining run",
                "pretraining",
            ),
        },
        beside=(
            Artifact(
                "pretraining/{pretraining}/step_*/*.safetensors",
                "weights of a pretrained checkpoint",
                "pretraining",
            ),
        ),
        setups=lambda study: ({"pretraining": name} for name in study.settings.pretrain),
        settings=jobs_concepts.pretrain_settings,
        cost=costs.pretraining_cost,
        threads=pretraining_threads,
        gpu=True,
        weights=_start_weights,
    ),
    Stage(
        "fetch_checkpoint",
        "checkpoints",
        outputs={
            "manifest": Artifact(
                "checkpoints/{model}/{checkpoint}/manifest.json",
                "manifest of a checkpoint",
                "checkpoint",
            ),
        },
        setups=lambda study: setups_of(study.sheet),
        settings=jobs_concepts.checkpoint_settings,
        cost=costs.checkpoint_cost,
        hub=True,
    ),
    Stage(
        "remove_download",
        "checkpoints",
        outputs={
            "record": Artifact(
                "checkpoints/{model}/{checkpoint}/removed.json",
                "which downloaded weights of a checkpoint were removed",
            ),
        },
        setups=_removable,
        cost=without_estimate(10, memory_mb=1000),
    ),
)
