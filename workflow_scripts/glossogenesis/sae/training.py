"""Train autoencoders of one layer at several learning rates side by side, and pick the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from glossogenesis.exceptions import NotFiniteError, StudyError
from glossogenesis.sae.autoencoder import SparseAutoencoder, to_sae_space
from glossogenesis.sae.trainer import (
    StepFacts,
    StepPlan,
    Trainer,
    Workspace,
    initial_autoencoder,
    warm_started,
)
from glossogenesis.study.features import SaeTraining

RECORDED_STEPS = 1000
"""Rows of the training table for each learning rate, at most twice as many."""


@dataclass(frozen=True)
class TrainedStep:
    """One row of the training table: one step at one learning rate."""

    step: int
    tokens: int
    """Seen so far."""
    learning_rate: float
    """The highest of its schedule."""
    loss: float
    """Mean over the batch of the squared error of a token, and of the L1 penalty."""
    l0: float
    """Latents that fired for a token, on average over the batch."""
    dead_share: float
    """Latents that have not fired in the last `dead_after_tokens`, or since the start."""
    explained_variance: float
    """Of the batch."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a run trains, apart from the activations."""

    settings: SaeTraining
    seed: int
    total_steps: int
    described_as: str
    """Model, checkpoint and layer, for messages."""
    neighbour: SparseAutoencoder | None = None
    """Where a warm start takes its weights from."""
    neighbour_name: str | None = None
    """What messages call it."""
    neighbour_checkpoint: str | None = None


@dataclass(frozen=True)
class HeldOutFacts:
    """What one learning rate came to, in the space of the autoencoder."""

    learning_rate: float
    loss: float
    """Mean over tokens of the squared error, and of the L1 penalty; the lowest wins."""
    explained_variance: float
    """1 - E|u - u_hat|^2 / (E|u|^2 - |E u|^2), in float64."""
    l0: float
    """Latents that fire for a token, on average."""
    dead_share: float
    """Latents that fire for no held-out token."""
    tokens: int


@dataclass(frozen=True)
class TrainedAutoencoder:
    """What comes out of a run."""

    sae: SparseAutoencoder
    """The winner."""
    winner: HeldOutFacts
    held_out: tuple[HeldOutFacts, ...]
    """Of every learning rate whose loss is finite."""
    rows: tuple[TrainedStep, ...]
    """The training table."""
    steps_done: int


class TrainingRun:
    """The autoencoders of one layer in training; all learning rates see every batch in turn."""

    def __init__(
        self, plan: TrainingPlan, *, device: torch.device | str, workspace: Workspace | None = None
    ) -> None:
        self.plan = plan
        self.device = torch.device(device)
        self.trainers: list[Trainer] = []
        self.rows: list[TrainedStep] = []
        self._workspace = workspace or Workspace(plan.settings.precision)

    @property
    def steps_done(self) -> int:
        """Steps so far."""
        return self.trainers[0].step_number if self.trainers else 0

    def step(self, batch: Tensor) -> None:
        """Take a step at every learning rate.

        Args:
            batch: activations [batch, d_model] in their stored dtype, on any device.

        Raises:
            StudyError: an activation is not finite; a setting does not fit the width.
        """
        self._check_finite(batch)
        last = self.rows[-len(self.trainers) :] if self.trainers else []
        if last and not any(math.isfinite(row.loss) for row in last):
            # Nothing will come of it: the other layers of a job alone go on.
            for trainer in self.trainers:
                trainer.step_number += 1
            return
        u, _ = to_sae_space(batch.to(self.device), self.plan.settings.normalise)
        if not self.trainers:
            self._start(u)
        facts = [trainer.step(u) for trainer in self.trainers]
        if self._is_recorded(self.steps_done):
            self._record(facts, u)

    def finish(self, held_out: Iterable[Tensor]) -> TrainedAutoencoder:
        """Compare the learning rates on held-out activations and return the best.

        A rate whose loss is not finite is out of the race.

        Args:
            held_out: activations [row, d_model], some rows at a time.

        Raises:
            NotFiniteError: no rate's loss is finite.
            StudyError: an activation is not finite, or there are none.
        """
        settings = self.plan.settings
        sums = [HeldOutSums(trainer.sae, settings.l1_coefficient) for trainer in self.trainers]
        for rows in held_out:
            self._check_finite(rows)
            for part in rows.split(settings.batch_size):
                u, _ = to_sae_space(part.to(self.device), settings.normalise)
                for each in sums:
                    each.add(u)
        found = tuple(
            each.facts(rate) for each, rate in zip(sums, settings.learning_rates, strict=True)
        )
        if not found[0].tokens:
            raise StudyError(
                f"{self.plan.described_as}: there are no held-out activations; raise "
                "`held_out_tokens` of the corpus"
            )
        finite = tuple(facts for facts in found if math.isfinite(facts.loss))
        if not finite:
            raise NotFiniteError(self._not_finite(found))
        if others := set(found).difference(finite):
            print(self._not_finite(others))
        best = best_of(finite)
        sae = self.trainers[found.index(finite[best])].sae
        return TrainedAutoencoder(sae, finite[best], finite, tuple(self.rows), self.steps_done)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON from which `restore` goes on exactly."""
        tensors: dict[str, Tensor] = {}
        for number, trainer in enumerate(self.trainers):
            for name, tensor in trainer.state_tensors().items():
                tensors[f"{number}/{name}"] = tensor
        return tensors, {
            "trainers": [trainer.state_facts() for trainer in self.trainers],
            "rows": [asdict(row) for row in self.rows],
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up a state of this very run."""
        self.rows = [TrainedStep(**row) for row in facts["rows"]]
        self.trainers = []
        for number, of_trainer in enumerate(facts["trainers"]):
            own = {
                name.removeprefix(f"{number}/"): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{number}/")
            }
            n_latents, d_model = own["w_enc"].shape
            sae = self._empty(d_model, n_latents).to(self.device)
            trainer = self._trainer(sae, self.plan.settings.learning_rates[number])
            trainer.restore(own, of_trainer)
            self.trainers.append(trainer)

    def _start(self, u: Tensor) -> None:
        """Make one autoencoder a learning rate, all equal."""
        settings = self.plan.settings
        n_latents = settings.latents_of(u.shape[1])
        if self.plan.neighbour is not None:
            sae = warm_started(
                self.plan.neighbour,
                u,
                n_latents,
                settings.architecture,
                k=settings.k,
                normalise=settings.normalise,
                name=self.plan.neighbour_name or "the neighbour",
            )
        else:
            sae = initial_autoencoder(
                u,
                n_latents,
                settings.architecture,
                k=settings.k,
                normalise=settings.normalise,
                seed=self.plan.seed,
            )
        for rate in settings.learning_rates:
            own = self._empty(sae.d_model, sae.n_latents).to(self.device)
            own.load_state_dict(sae.state_dict())
            own.threshold = sae.threshold
            self.trainers.append(self._trainer(own, rate))

    def _empty(self, d_model: int, n_latents: int) -> SparseAutoencoder:
        settings = self.plan.settings
        return SparseAutoencoder(
            d_model,
            n_latents,
            settings.architecture,
            k=settings.k,
            normalise=settings.normalise,
        )

    def _trainer(self, sae: SparseAutoencoder, rate: float) -> Trainer:
        settings = self.plan.settings
        plan = StepPlan(
            learning_rate=rate,
            total_steps=self.plan.total_steps,
            warmup_steps=settings.warmup_steps,
            decay_share=settings.decay_share,
            adam_epsilon=settings.adam_epsilon,
            clip_norm=settings.clip_norm,
            l1_coefficient=settings.l1_coefficient,
            auxk_coefficient=settings.auxk_coefficient,
            auxk=settings.auxk,
            dead_after_tokens=settings.dead_after_tokens,
        )
        return Trainer(sae, plan, workspace=self._workspace)

    def _is_recorded(self, step: int) -> bool:
        every = max(1, self.plan.total_steps // RECORDED_STEPS)
        return step % every == 0 or step == self.plan.total_steps

    def _record(self, found: Sequence[StepFacts], u: Tensor) -> None:
        variance = float((u - u.mean(0)).square().sum()) / len(u)
        for trainer, facts in zip(self.trainers, found, strict=True):
            rate = trainer.plan.learning_rate
            loss, error = float(facts.loss), float(facts.squared_error)
            self.rows.append(
                TrainedStep(
                    step=trainer.step_number,
                    tokens=trainer.tokens,
                    learning_rate=rate,
                    loss=loss,
                    l0=float(facts.l0),
                    dead_share=float(facts.dead_share),
                    explained_variance=1.0 - error / variance if variance > 0 else math.nan,
                )
            )

    def _check_finite(self, batch: Tensor) -> None:
        if not bool(batch.isfinite().all()):
            raise StudyError(
                f"{self.plan.described_as}: activations are NaN or infinite; check the "
                "checkpoint's weights and the model's `dtype`, or leave such tokens out with "
                "`activations.not_finite: drop`"
            )

    def _not_finite(self, found: Iterable[HeldOutFacts]) -> str:
        rates = ", ".join(f"{rate:g}" for rate in sorted(facts.learning_rate for facts in found))
        return (
            f"{self.plan.described_as}: the loss is not finite at learning rate {rates} after "
            f"{self.steps_done} steps; lower or remove it in `learning_rates`, or set `clip_norm`"
        )


def total_steps_of(rows: int, settings: SaeTraining, described_as: str) -> int:
    """Return the steps of a training on `rows` tokens.

    Raises:
        StudyError: they do not fill one batch.
    """
    steps = rows * settings.epochs // settings.batch_size
    if not steps:
        raise StudyError(
            f"{described_as}: {rows} training tokens do not fill one batch of "
            f"{settings.batch_size}; lower `batch_size`, or raise `train_tokens` or `epochs`"
        )
    return steps


class HeldOutSums:
    """Sums over held-out tokens of one autoencoder, in float64."""

    def __init__(self, sae: SparseAutoencoder, l1_coefficient: float) -> None:
        self._sae = sae
        self._l1_coefficient = l1_coefficient
        self._tokens = 0
        self._squared_error = 0.0
        self._latent_sum = 0.0
        self._squares = 0.0
        self._sum = torch.zeros(sae.d_model, dtype=torch.float64)
        self._firings = torch.zeros(sae.n_latents, dtype=torch.int64)

    def add(self, u: Tensor) -> None:
        """Count tokens, float32 [row, d_model] in the autoencoder's space."""
        fired = self._sae.fired(u)
        error = self._sae.decode(fired) - u
        self._tokens += len(u)
        self._squared_error += float(error.double().square().sum())
        self._latent_sum += float(fired.values.double().sum())
        self._squares += float(u.double().square().sum())
        self._sum += u.double().sum(0).cpu()
        counts = torch.bincount(fired.latents, minlength=self._sae.n_latents)
        self._firings += counts.cpu()

    def facts(self, learning_rate: float) -> HeldOutFacts:
        """Return what the counted tokens show."""
        n = max(1, self._tokens)
        variance = self._squares / n - float((self._sum / n).square().sum())
        error = self._squared_error / n
        return HeldOutFacts(
            learning_rate=learning_rate,
            loss=error + self._l1_coefficient * self._latent_sum / n,
            explained_variance=1.0 - error / variance if variance > 0 else float("nan"),
            l0=float(self._firings.sum()) / n,
            dead_share=float((self._firings == 0).double().mean()),
            tokens=self._tokens,
        )


def best_of(found: Iterable[HeldOutFacts]) -> int:
    """Return which has the lowest loss; the first of equal ones."""
    losses = [facts.loss for facts in found]
    return losses.index(min(losses))
