"""Stages that bring checkpoints into place, and what stages of several studies share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from glossogenesis.study.sheet import Checkpoint
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from glossogenesis.workflow import jobs_concepts as jobs
from glossogenesis.workflow.costs import Cost
from glossogenesis.workflow.stages import Artifact, Settings, Setup, Stage

CHECKPOINT = "{model}/{checkpoint}"
"""The folder of a checkpoint below that of a stage."""


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


def tables(
    part: str, where: Callable[[Study], bool] | None = None, **words: str
) -> dict[str, Artifact]:
    """The tables of a part of the study, by name."""
    return {
        name: Artifact(f"{part}_{name}.parquet", text, where=where) for name, text in words.items()
    }


def figures_stage(
    part: str, setups: Callable[[Study], Iterable[Setup]], settings: Callable[[Study], Settings]
) -> Stage:
    """The figures of a part of the study."""
    return Stage(
        f"plot_{part}",
        "",
        "figures",
        setups,
        {"svg": Artifact("{figure}.svg", "figure, and the numbers drawn in it")},
        settings,
        without_estimate(15, memory_mb=2000),
        copies=(".pdf", ".csv"),
        program="plot_figures",
    )


def _pretrainings(study: Study) -> Iterator[Setup]:
    return ({"pretraining": name} for name in study.settings.pretrain)


def _start_weights(study: Study, setup: Setup) -> list[tuple[str, str]]:
    start = study.settings.pretrain[setup["pretraining"]].start
    return [] if start is None else [(start.model, start.checkpoint)]


def _removable(study: Study) -> Iterator[Setup]:
    if study.settings.hub.keep_downloads:
        return iter(())
    return setups_of(row for row in study.sheet if row.is_on_hub)


# fmt: off
STAGES = (
    Stage(
        "pretrain_model", "pretraining", "pretraining/{pretraining}", _pretrainings,
        {
            "manifest": Artifact("manifest.json", "manifest of a pretraining run"),
            "training": Artifact("training.parquet", "loss and learning rate of a pretraining run"),
        },
        jobs.pretrain_settings, costs.pretraining_cost, gpu=True, threads=pretraining_threads,
        weights=_start_weights,
        others=(Artifact("step_*/*.safetensors", "weights of a pretrained checkpoint"),),
    ),
    Stage(
        "fetch_checkpoint", "checkpoint", f"checkpoints/{CHECKPOINT}",
        lambda study: setups_of(study.sheet),
        {"manifest": Artifact("manifest.json", "manifest of a checkpoint")},
        jobs.checkpoint_settings, costs.checkpoint_cost, hub=True,
    ),
    Stage(
        "remove_download", "", f"checkpoints/{CHECKPOINT}", _removable,
        {
            "record": Artifact(
                "removed.json", "which downloaded weights of a checkpoint were removed"
            ),
        },
        None, without_estimate(10, memory_mb=1000),
    ),
)
