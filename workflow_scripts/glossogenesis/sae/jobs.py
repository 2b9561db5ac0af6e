"""Train autoencoders of one layer or several, from caches or a running model, and write them.

Windows of tokens come from the model in the order in which extraction would have stored them, so
that the weights are those that training from a cache gives.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import NotFiniteError, StudyError
from glossogenesis.models.activation_order import cached_batches, epochs_of, layer_batches_of
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.residuals import NotFinite, residual_windows
from glossogenesis.progress import progress
from glossogenesis.sae.files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    SaeFacts,
    origin_of_sae,
    read_own_facts,
    read_sae,
    write_no_sae,
    write_sae,
)
from glossogenesis.sae.trainer import Workspace
from glossogenesis.sae.training import TrainedAutoencoder, TrainingPlan, TrainingRun, total_steps_of
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.provenance import Provenance, diverged, reason_left_out, settings_digest
from glossogenesis.storage.tables import read_provenance, write_table
from glossogenesis.storage.tensors import ResumeState, StateKeeper
from glossogenesis.study.features import SaeTraining

TRAINING_FILE = "training.parquet"

TRAINING_SCHEMA = pl.Schema(
    {
        "step": pl.Int64,
        "tokens": pl.Int64,
        "learning_rate": pl.Float64,
        "loss": pl.Float64,
        "l0": pl.Float64,
        "dead_share": pl.Float64,
        "explained_variance": pl.Float64,
    }
)


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
        print(f"{described_as}: starts again, as {warm_start} was left out")
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


def train_block(
    jobs: Sequence[CachedTraining],
    resume_folder: Path,
    *,
    device: torch.device | str,
    seconds_between_states: float = 60.0,
) -> None:
    """Train each layer; all go to their folders when the last is done.

    Until then they wait in their resume folders, which lie in `resume_folder`, and an interrupted
    run takes them up: outputs of a job are deleted when it fails, and before it starts again.

    Raises:
        StudyError: as `train_from_cache`; the layers before the one that it names are not lost.
    """
    for job in jobs:
        if not is_trained(job.resume_folder, job.provenance):
            train_from_cache(
                replace(job, folder=job.resume_folder),
                device=device,
                seconds_between_states=seconds_between_states,
            )
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
        for name in (TRAINING_FILE, CONFIG_FILE, WEIGHTS_FILE):
            shutil.move(job.resume_folder / name, job.folder / name)
    shutil.rmtree(resume_folder)


def is_trained(folder: Path, provenance: Provenance) -> bool:
    """Return whether a folder holds all files, undamaged, of a training of just this origin."""
    try:
        read_sae(folder)
        recorded = (
            read_own_facts(folder)["provenance"],
            asdict(read_provenance(folder / TRAINING_FILE)),
        )
    except StudyError:
        return False
    # Facts are what came out of the training.
    expected = settings_digest(asdict(provenance) | {"facts": {}})
    return all(settings_digest(each | {"facts": {}}) == expected for each in recorded)


@dataclass(frozen=True)
class StreamedTraining:
    """One job: what it trains, on which model and corpus, and where it writes."""

    settings: SaeTraining
    seed: int
    caches: Mapping[int, ActivationCache]
    """By layer: the held-out activations, whose manifest also says how windows are made."""
    not_finite: NotFinite
    batch_size: int
    """Contexts in a forward pass of the model."""
    warm_starts: Mapping[int, Path]
    """By layer: weights of the neighbouring checkpoint, if training starts from them."""
    folders: Mapping[int, Path]
    """By layer: gets all files."""
    resume_folder: Path
    on_diverged: str
    """As of `CachedTraining`."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that train."""
        return tuple(self.caches)


def train_from_model(
    job: StreamedTraining,
    anatomy: Anatomy,
    corpus: TokenisedCorpus,
    provenance: Provenance,
    *,
    seconds_between_states: float = 60.0,
) -> None:
    """Train every layer at all learning rates, and write each layer's best autoencoder and table.

    The model runs once an epoch. A run that goes on after an interruption leaves out the windows
    that it is done with.

    Raises:
        StudyError: activations are not finite or too few, a loss is not finite, a neighbour does
            not fit, or the corpus or the held-out activations are damaged.
    """
    settings = job.settings
    train_rows = sum(corpus.facts("train").tokens.values())
    workspace = Workspace(settings.precision)
    runs = {
        layer: TrainingRun(
            plan_of(settings, job.seed, cache, train_rows, job.warm_starts.get(layer)),
            device=anatomy.device,
            workspace=workspace,
        )
        for layer, cache in job.caches.items()
    }
    state = ResumeState(job.resume_folder, settings_digest(asdict(provenance)))
    kept = state.load()
    start = WindowStart() if kept is None else _restore(runs, *kept)
    any_run = next(iter(runs.values()))
    total = any_run.plan.total_steps
    rows_done = any_run.steps_done * settings.batch_size
    keeper = StateKeeper(state, seconds_between_states)
    # A token is half done when the model has read it, and done when it has been trained on.
    bar = progress(
        total=(train_rows * settings.epochs + total * settings.batch_size) / 2,
        done=(start.rows_before + rows_done) / 2,
        label=f"layers {min(runs)} to {max(runs)}",
        unit="tok",
    )
    windows = WindowsInOrder(job, anatomy, corpus, start, lambda tokens: bar.update(tokens / 2))
    for batch in layer_batches_of(windows.activations(rows_done), settings.batch_size):
        for layer, run in runs.items():
            run.step(batch[layer])
        rows_done += settings.batch_size
        show(bar, any_run)
        bar.update(settings.batch_size / 2)
        if any_run.steps_done < total:
            keeper.keep_if_due(partial(_state, runs, windows.start_of(rows_done)))
    bar.close()
    for layer, run in runs.items():
        of_layer = replace(provenance, layer=layer)
        write_outcome(run, job.caches[layer], job.folders[layer], of_layer, job.on_diverged)
    state.remove()


@dataclass(frozen=True)
class WindowStart:
    """A window, and how many rows of all windows came before it."""

    epoch: int = 0
    number: int = 0
    rows_before: int = 0


class WindowsInOrder:
    """Windows of the training split over all epochs, which remembers where each began."""

    def __init__(
        self,
        job: StreamedTraining,
        anatomy: Anatomy,
        corpus: TokenisedCorpus,
        start: WindowStart,
        on_batch: Callable[[int], object],
    ) -> None:
        self._job = job
        self._anatomy = anatomy
        self._corpus = corpus
        self._first = start
        self._on_batch = on_batch
        self._begun: list[WindowStart] = []
        self._epoch = start.epoch
        self._rows = start.rows_before

    def activations(self, rows_done: int) -> Iterator[dict[int, Tensor]]:
        """Yield windows by layer, less the `rows_done` first rows of the whole training."""
        skipped = rows_done - self._first.rows_before
        for window in epochs_of(
            self._of_epoch,
            epochs=self._job.settings.epochs,
            seed=self._job.seed,
            first_epoch=self._first.epoch,
            first_window=self._first.number,
        ):
            yield {layer: rows[skipped:] for layer, rows in window.items()} if skipped else window
            skipped = 0

    def start_of(self, rows_done: int) -> WindowStart:
        """Return the window in which training goes on after `rows_done` rows."""
        while len(self._begun) > 1 and self._begun[1].rows_before <= rows_done:
            del self._begun[0]
        return self._begun[0]

    def _of_epoch(self, first: int) -> Iterator[Mapping[int, Tensor]]:
        job = self._job
        cache = next(iter(job.caches.values()))
        for window in residual_windows(
            self._anatomy,
            self._corpus,
            "train",
            job.layers,
            window=cache.window,
            seed=cache.provenance["seed"],
            batch_size=job.batch_size,
            dtype=cache.dtype,
            not_finite=job.not_finite,
            described_as=f"{cache.model} {cache.checkpoint}",
            skip=range(first),
            on_batch=self._on_batch,
        ):
            self._begun.append(WindowStart(self._epoch, window.number, self._rows))
            self._rows += len(window)
            yield window.activations
        self._epoch += 1


def _state(
    runs: Mapping[int, TrainingRun], start: WindowStart
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of all layers together."""
    tensors: dict[str, Tensor] = {}
    layers: dict[str, Any] = {}
    for layer, run in runs.items():
        of_layer, layers[str(layer)] = run.state()
        tensors |= {f"{layer}/{name}": tensor for name, tensor in of_layer.items()}
    return tensors, {"layers": layers, "window": asdict(start)}


def _restore(
    runs: Mapping[int, TrainingRun], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> WindowStart:
    """Take up the state of all layers, and return where the windows go on."""
    for layer, run in runs.items():
        own = {
            name.removeprefix(f"{layer}/"): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{layer}/")
        }
        run.restore(own, facts["layers"][str(layer)])
    return WindowStart(**facts["window"])


def write_outcome(
    run: TrainingRun, cache: ActivationCache, folder: Path, provenance: Provenance, on_diverged: str
) -> None:
    """Write `training.parquet`, `cfg.json` and, last, `sae_weights.safetensors`.

    Args:
        run: all steps of which are taken.
        cache: the layer's activations.
        folder: gets the files.
        provenance: of the run; facts are added.
        on_diverged: whether to `stop` where no learning rate came to anything.

    Raises:
        StudyError: as `TrainingRun.finish`.
    """
    try:
        trained = run.finish(rows.activations for rows in cache.shards("held_out"))
    except NotFiniteError as error:
        write_nothing(folder, diverged(error, on_diverged, provenance))
        return
    facts = training_facts(trained, run.plan)
    provenance = replace(provenance, facts={**provenance.facts, **facts})
    table = pl.DataFrame([asdict(step) for step in trained.rows], schema=TRAINING_SCHEMA)
    write_table(folder / TRAINING_FILE, table, provenance)
    write_sae(folder, trained.sae, SaeFacts.of_cache(cache, facts), provenance)


def write_nothing(folder: Path, provenance: Provenance) -> None:
    """Write the same files, empty, of a layer that was left out."""
    write_table(folder / TRAINING_FILE, TRAINING_SCHEMA.to_frame(), provenance)
    write_no_sae(folder, provenance)


def training_facts(trained: TrainedAutoencoder, plan: TrainingPlan) -> dict[str, Any]:
    """What an autoencoder's files record of its training, as JSON."""
    return {
        "seed": plan.seed,
        "learning_rate": trained.winner.learning_rate,
        "held_out": [asdict(facts) for facts in trained.held_out],
        "steps": trained.steps_done,
        "tokens": trained.steps_done * plan.settings.batch_size,
        "warm_start": None if plan.neighbour is None else plan.neighbour_checkpoint,
    }
