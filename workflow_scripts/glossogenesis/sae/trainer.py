"""Train one sparse autoencoder at one learning rate: a step a batch, Adam, unit decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.autoencoder import (
    Architecture,
    DenseLatents,
    LargestOfBatch,
    LargestOfRows,
    Normalise,
    Precision,
    SelectedLatents,
    SparseAutoencoder,
    first_bound,
)
from glossogenesis.sae.gradients import (
    DeadLatents,
    Gradients,
    add_auxiliary_gradients,
    add_sparse_gradients,
    auxiliary_k,
    decoded,
    dense_step,
    finish_decoder_bias,
    is_dense,
)

THRESHOLD_WEIGHT = 0.05
"""Weight of a batch in the running mean of the least activation that a `batchtopk` kept: the last
twenty steps or so count."""

BOUND_SHARE = 0.8
"""Share of the last batch's least activation above which the next batch's are looked for."""


@dataclass(frozen=True)
class StepPlan:
    """What every step of a training follows."""

    learning_rate: float
    """The highest."""
    total_steps: int
    warmup_steps: int = 0
    decay_share: float = 0.0
    adam_epsilon: float = 1e-8
    clip_norm: float | None = None
    l1_coefficient: float = 0.0
    auxk_coefficient: float = 0.0
    auxk: int = 256
    dead_after_tokens: int = 10_000_000
    path: Literal["auto", "sparse", "dense"] = "auto"
    """Which products compute gradients; they agree, and `auto` takes the faster."""


@dataclass(frozen=True)
class StepFacts:
    """What one step found, as tensors of one entry, so that a GPU is not waited for."""

    loss: Tensor
    """Mean over tokens of the squared error, and of the L1 penalty."""
    squared_error: Tensor
    """Mean over tokens of the sum over dimensions."""
    l0: Tensor
    """Latents that fired for a token, on average."""
    dead_share: Tensor
    """Latents that have not fired in the last `dead_after_tokens`, or since the start."""


@dataclass(frozen=True)
class _Pass:
    """What the forward and backward pass of a batch leaves."""

    error: Tensor
    fired: Tensor
    count: Tensor
    total: Tensor


class Workspace:
    """Buffers that trainers which take turns share: dense latents of a chunk, and gradients."""

    def __init__(self, precision: Precision = "float32") -> None:
        self.dense = DenseLatents(precision)
        self._gradients: Gradients | None = None

    def gradients(self, sae: SparseAutoencoder) -> Gradients:
        """Return buffers for an autoencoder, those of the last one where they fit."""
        held = self._gradients
        like = sae.w_enc
        if (
            held is None
            or held.w_enc.shape != like.shape
            or held.w_enc.dtype != like.dtype
            or held.w_enc.device != like.device
        ):
            held = self._gradients = Gradients.like(sae)
        return held


class Trainer:
    """One autoencoder in training at one learning rate."""

    def __init__(
        self, sae: SparseAutoencoder, plan: StepPlan, *, workspace: Workspace | None = None
    ) -> None:
        self.sae = sae
        self.plan = plan
        self.step_number = 0
        self.tokens = 0
        self.tokens_since_fired = torch.zeros(
            sae.n_latents, dtype=torch.int64, device=sae.w_enc.device
        )
        self.optimizer = torch.optim.Adam(
            [sae.w_enc, sae.b_enc, sae.w_dec, sae.b_dec],
            lr=plan.learning_rate,
            eps=plan.adam_epsilon,
            fused=True,
        )
        workspace = workspace or Workspace()
        self._dense = workspace.dense
        self._gradients = workspace.gradients(sae)
        self._is_dense = is_dense(sae) if plan.path == "auto" else plan.path == "dense"
        self._bound: float | None = None

    @torch.no_grad()
    def step(self, u: Tensor) -> StepFacts:
        """Take one step on a batch of activations in the autoencoder's space, float32 [row, d]."""
        passed = self.gradients_of(u)
        self._update()
        self.step_number += 1
        self.tokens += len(u)
        self.tokens_since_fired.add_(len(u)).masked_fill_(passed.fired, 0)
        squared_error = passed.error.square().sum() / len(u)
        window = min(self.tokens, self.plan.dead_after_tokens)
        return StepFacts(
            loss=squared_error + self.plan.l1_coefficient * passed.total / len(u),
            squared_error=squared_error,
            l0=passed.count / len(u),
            dead_share=(self.tokens_since_fired >= window).double().mean(),
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that, with `state_facts`, `restore` goes on from exactly."""
        tensors = {name: tensor.detach() for name, tensor in self.sae.named_parameters()}
        tensors["tokens_since_fired"] = self.tokens_since_fired
        for index, moments in self.optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                tensors[f"adam/{index}/{key}"] = value
        return tensors

    def state_facts(self) -> dict[str, Any]:
        """Return the numbers of the state, as JSON."""
        return {
            "step": self.step_number,
            "tokens": self.tokens,
            "threshold": self.sae.threshold,
            "bound": self._bound,
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up a state of this very training."""
        for name, parameter in self.sae.named_parameters():
            parameter.copy_(tensors[name])
        self.tokens_since_fired.copy_(tensors["tokens_since_fired"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam/"):
                _, index, key = name.split("/")
                moments.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.step_number, self.tokens = facts["step"], facts["tokens"]
        self.sae.threshold, self._bound = facts["threshold"], facts["bound"]

    def gradients_of(self, u: Tensor) -> _Pass:
        """Set the gradients of all weights for a batch, without a step."""
        sae, gradients = self.sae, self._gradients
        gradients.attach(sae)
        centred = u - sae.b_dec
        dead = self._dead_latents()
        run = self._dense_pass if self._is_dense else self._sparse_pass
        passed = run(u, centred, dead)
        if dead is not None:
            add_auxiliary_gradients(
                sae,
                dead.selected(u.dtype),
                passed.error,
                centred,
                gradients,
                coefficient=self.plan.auxk_coefficient,
            )
        finish_decoder_bias(sae, passed.error * (2.0 / len(u)), gradients)
        return passed

    def _sparse_pass(self, u: Tensor, centred: Tensor, dead: DeadLatents | None) -> _Pass:
        sae = self.sae
        selected = self._select(centred, dead)
        error = decoded(selected, sae.w_dec).add_(sae.b_dec).sub_(u)
        outward = error * (2.0 / len(u))
        add_sparse_gradients(sae, selected, outward, centred, self._gradients, first=True)
        positive = selected.values > 0
        fired = torch.zeros_like(self.tokens_since_fired)
        fired.index_add_(0, selected.latents, positive.long())
        return _Pass(error, fired > 0, positive.sum(), selected.values.sum())

    def _dense_pass(self, u: Tensor, centred: Tensor, dead: DeadLatents | None) -> _Pass:
        found = dense_step(
            self.sae,
            u,
            centred,
            self._dense,
            self._gradients,
            l1_coefficient=self.plan.l1_coefficient,
            look=_nothing if dead is None else dead.add,
        )
        return _Pass(found.error, found.fired, found.count, found.total)

    def _select(self, centred: Tensor, dead: DeadLatents | None) -> SelectedLatents:
        sae = self.sae
        assert sae.k is not None
        chunks = self._dense.chunks(centred, sae.w_enc, sae.b_enc)
        if sae.architecture == "topk":
            largest = LargestOfRows(sae.k)
            for before in chunks:
                largest.add(before)
                if dead is not None:
                    dead.add(before)
            return largest.selected(centred.dtype)
        return self._select_of_batch(centred, sae.k, dead)

    def _select_of_batch(
        self, centred: Tensor, k: int, dead: DeadLatents | None
    ) -> SelectedLatents:
        """Select k latents a token of the whole batch, and follow the threshold for inference."""
        sae = self.sae
        bound = self._bound
        while True:
            largest: LargestOfBatch | None = None
            for before in self._dense.chunks(centred, sae.w_enc, sae.b_enc):
                if largest is None:
                    bound = first_bound(before, k) if bound is None else bound
                    largest = LargestOfBatch(k * len(centred), bound)
                largest.add(before)
                if dead is not None:
                    dead.add(before)
            assert largest is not None
            if not largest.too_few:
                break
            # Looking again must not collect the dead latents twice.
            dead = None
            bound = largest.bound / 2 if largest.bound > 1e-3 else 0.0
        selected = largest.selected(centred.dtype)
        if len(selected.values):
            least = float(selected.values.min())
            self._bound = BOUND_SHARE * least
            before_this = least if sae.threshold is None else sae.threshold
            sae.threshold = before_this + THRESHOLD_WEIGHT * (least - before_this)
        return selected

    def _dead_latents(self) -> DeadLatents | None:
        """Collector of dead latents; None where the auxiliary loss has nothing to do."""
        if not self.plan.auxk_coefficient or self.tokens < self.plan.dead_after_tokens:
            return None
        dead = (self.tokens_since_fired >= self.plan.dead_after_tokens).nonzero().flatten()
        if not len(dead):
            return None
        return DeadLatents(dead, auxiliary_k(self.plan.auxk, self.sae.d_model))

    def _clip(self, clip_norm: float) -> None:
        """Scale gradients down to a norm of `clip_norm`; those that are small are not touched."""
        gradients = [
            self._gradients.w_enc,
            self._gradients.b_enc,
            self._gradients.w_dec,
            self._gradients.b_dec,
        ]
        # The small number is that of torch's own function.
        factor = clip_norm / (float(torch.nn.utils.get_total_norm(gradients)) + 1e-6)
        if factor < 1.0:
            for gradient in gradients:
                gradient.mul_(factor)

    def _update(self) -> None:
        plan, sae = self.plan, self.sae
        factor = rate_factor(
            self.step_number + 1,
            plan.total_steps,
            warmup_steps=plan.warmup_steps,
            decay_share=plan.decay_share,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = plan.learning_rate * factor
        if plan.clip_norm is not None:
            self._clip(plan.clip_norm)
        self.optimizer.step()
        unit_rows(sae.w_dec)


def _nothing(before: Tensor) -> None:
    """Look at nothing."""


def initial_autoencoder(
    first_batch: Tensor,
    n_latents: int,
    architecture: Architecture,
    *,
    k: int | None,
    normalise: Normalise,
    seed: int,
) -> SparseAutoencoder:
    """Return an untrained autoencoder on the device of `first_batch`.

    Rows of the decoder are random unit vectors, the encoder starts equal to it, and the decoder's
    bias is the geometric median of the first batch, as in Inaba et al. 2025.

    Args:
        first_batch: activations in the space of the autoencoder, float32 [row, d_model].
        n_latents: size of the dictionary.
        architecture: which latents fire.
        k: how many, but for `relu`.
        normalise: what was done to the activations.
        seed: of the decoder; equal on every device.

    Raises:
        StudyError: `k` is larger than the dictionary.
    """
    d_model = first_batch.shape[1]
    sae = SparseAutoencoder(d_model, n_latents, architecture, k=k, normalise=normalise)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.rand(n_latents, d_model, generator=generator).mul_(2.0).sub_(1.0)
    sae.w_dec.copy_(functional.normalize(directions, dim=1))
    sae.w_enc.copy_(sae.w_dec)
    sae.to(first_batch.device)
    sae.b_dec.copy_(geometric_median(first_batch))
    return sae


def geometric_median(
    points: Tensor, *, iterations: int = 100, tolerance: float = 1e-5, distance_floor: float = 1e-8
) -> Tensor:
    """Return the point with the least sum of distances to `points` [row, d_model], by Weiszfeld.

    It starts at the mean and ends after `iterations` or once it moves by less than `tolerance`.
    """
    median = points.mean(0)
    for _ in range(iterations):
        weights = (points - median).norm(dim=1).add_(distance_floor).reciprocal_()
        moved = (weights @ points) / weights.sum()
        distance = float((moved - median).norm())
        median = moved
        if distance < tolerance:
            break
    return median


def warm_started(
    neighbour: SparseAutoencoder,
    first_batch: Tensor,
    n_latents: int,
    architecture: Architecture,
    *,
    k: int | None,
    normalise: Normalise,
    name: str,
) -> SparseAutoencoder:
    """Return an autoencoder with the weights of a neighbouring checkpoint's.

    `name` is what messages call the neighbour. The decoder's rows are scaled to unit norm.

    Raises:
        StudyError: the neighbour has another width, dictionary or normalisation.
    """
    sae = SparseAutoencoder(first_batch.shape[1], n_latents, architecture, k=k, normalise=normalise)
    for what, theirs, ours in (
        ("width", neighbour.d_model, sae.d_model),
        ("number of latents", neighbour.n_latents, sae.n_latents),
        ("normalisation", neighbour.normalise, sae.normalise),
    ):
        if theirs != ours:
            raise StudyError(
                f"{name}: an autoencoder of {what} {theirs} cannot start one of {what} {ours}; "
                "train both with the same settings, or set `warm_start: false`"
            )
    sae.load_state_dict(neighbour.state_dict())
    unit_rows(sae.w_dec)
    return sae.to(first_batch.device)


def unit_rows(weights: Tensor) -> None:
    """Scale the rows of `weights` to unit norm, in place; rows of zeros stay."""
    norms = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    weights.div_(norms.clamp_min_(torch.finfo(weights.dtype).tiny))


def rate_factor(step: int, total: int, *, warmup_steps: int, decay_share: float) -> float:
    """Return the learning rate of a step as a share of the highest.

    It rises from 0 in the first step to 1 after `warmup_steps`, and falls over the last
    `decay_share` of the steps, so that it would reach 0 one step after the last.

    Args:
        step: counted from 1.
        total: steps of the training.
        warmup_steps: steps of the rise.
        decay_share: share of `total`.
    """
    rise = min(1.0, (step - 1) / warmup_steps) if warmup_steps else 1.0
    decay_steps = round(decay_share * total)
    fall = min(1.0, (total + 1 - step) / (decay_steps + 1))
    return min(rise, fall)
