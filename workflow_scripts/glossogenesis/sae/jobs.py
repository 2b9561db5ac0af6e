"""Train the autoencoders of several layers while the language model runs; nothing is cached.

Windows of tokens come from the model in the order in which extraction would have stored them, so
that the weights are those that training from a cache gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from glossogenesis.config.sae import SaeTraining
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.models.activation_order import epochs_of, layer_batches_of
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.residuals import NotFinite, residual_windows
from glossogenesis.progress import progress
from glossogenesis.sae.cached_training import plan_of, show
from glossogenesis.sae.outcome import write_outcome
from glossogenesis.sae.resume import StateKeeper
from glossogenesis.sae.trainer import Workspace
from glossogenesis.sae.training import TrainingRun
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.provenance import Provenance, settings_digest
from glossogenesis.storage.resume import ResumeState


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
