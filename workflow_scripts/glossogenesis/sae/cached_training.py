"""Train the autoencoder of one layer from its activation cache, and write what comes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from glossogenesis.config.sae import SaeTraining
from glossogenesis.models.activation_order import cached_batches
from glossogenesis.progress import progress
from glossogenesis.sae.files import origin_of_sae, read_own_facts, read_sae
from glossogenesis.sae.outcome import write_outcome
from glossogenesis.sae.resume import StateKeeper
from glossogenesis.sae.training import TrainingPlan, TrainingRun, total_steps_of
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.provenance import Provenance, reason_left_out, settings_digest
from glossogenesis.storage.resume import ResumeState


@dataclass(frozen=True)
class CachedTraining:
    """What is trained, on which activations, and where it is written."""

    settings: SaeTraining
    seed: int
    cache: ActivationCache
    warm_start: Path | None
    """Weights of the neighbouring checkpoint's autoencoder, if training starts from it."""
    folder: Path
    """Gets `cfg.json`, the weights and the table of steps."""
    resume_folder: Path
    provenance: Provenance
    """Of all that it writes; facts are added."""
    on_diverged: str
    """Whether to `stop` where no learning rate comes to anything, or to `leave_out` the layer."""


def train_from_cache(
    job: CachedTraining,
    *,
    device: torch.device | str,
    seconds_between_states: float = 60.0,
) -> None:
    """Train at all learning rates in one pass, and write the best autoencoder and the table.

    Equal activations, settings, versions, device and number of threads give equal bytes on a
    processor, also when the run was interrupted.

    Raises:
        StudyError: the activations are damaged, purged, not finite or too few, the loss is not
            finite, or the neighbour does not fit.
    """
    settings, cache = job.settings, job.cache
    plan = plan_of(settings, job.seed, cache, cache.rows_in("train"), job.warm_start)
    run = TrainingRun(plan, device=device)
    state = ResumeState(job.resume_folder, settings_digest(asdict(job.provenance)))
    if (kept := state.load()) is not None:
        run.restore(*kept)
    batches = cached_batches(
        cache,
        "train",
        settings.batch_size,
        epochs=settings.epochs,
        seed=job.seed,
        first_batch=run.steps_done,
    )
    keeper = StateKeeper(state, seconds_between_states)
    bar = progress(
        total=plan.total_steps * settings.batch_size,
        done=run.steps_done * settings.batch_size,
        label=f"layer {cache.layer}",
        unit="tok",
    )
    for batch in batches:
        run.step(batch)
        show(bar, run)
        bar.update(len(batch))
        if run.steps_done < plan.total_steps:
            keeper.keep_if_due(run.state)
    bar.close()
    write_outcome(run, cache, job.folder, job.provenance, job.on_diverged)
    state.remove()


def plan_of(
    settings: SaeTraining,
    seed: int,
    cache: ActivationCache,
    train_rows: int,
    warm_start: Path | None,
) -> TrainingPlan:
    """Return what a run on `train_rows` tokens of a layer trains.

    Raises:
        StudyError: they do not fill a batch, or the neighbour's file is damaged.
    """
    described_as = f"{cache.model}, checkpoint {cache.checkpoint}, layer {cache.layer}"
    total = total_steps_of(train_rows, settings, described_as)
    if settings.warmup_steps >= total:
        print(
            f"{described_as}: the learning rate never reaches its height: there are {total} steps "
            f"and `warmup_steps` is {settings.warmup_steps}"
        )
    if warm_start is not None and reason_left_out(origin_of_sae(warm_start)):
        print(f"{described_as}: starts anew, as {warm_start} was left out")
        warm_start = None
    return TrainingPlan(
        settings=settings,
        seed=seed,
        total_steps=total,
        described_as=described_as,
        neighbour=None if warm_start is None else read_sae(warm_start, d_model=cache.d_model),
        neighbour_name=None if warm_start is None else str(warm_start),
        neighbour_checkpoint=None if warm_start is None else checkpoint_of(warm_start),
    )


def checkpoint_of(weights: Path) -> str | None:
    """Return the checkpoint that an autoencoder of this library was trained on."""
    origin: Any = read_own_facts(weights)["provenance"]["checkpoint"]
    return None if origin is None else str(origin)


def show(bar: Any, run: TrainingRun) -> None:
    """Show the last recorded step, at the learning rate with the least loss, on a progress bar."""
    last = run.rows[-len(run.trainers) :]
    if last:
        best = min(last, key=lambda row: row.loss)
        bar.set_postfix(
            loss=f"{best.loss:.4g}",
            L0=f"{best.l0:.1f}",
            dead=f"{best.dead_share:.2f}",
            refresh=False,
        )
