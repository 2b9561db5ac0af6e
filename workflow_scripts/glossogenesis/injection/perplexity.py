"""How well the target model predicts text while features of the source model are injected.

Both models read a batch of contexts once. Whatever is then injected at a layer, only the target's
blocks above that layer run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import ContextBlock
from glossogenesis.errors import NotFiniteError
from glossogenesis.injection.method import Method, Reading, Variant, change_of, changed_states
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import PredictedContexts, next_token_losses, predicted_contexts
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.models.capture import read_layers
from glossogenesis.models.float32 import in_float32
from glossogenesis.models.prefill import Prefill, prefill
from glossogenesis.patching.identities import TOLERANCE, CheckedInFloat32
from glossogenesis.patching.injection_variants import with_matched_norms
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import SparseAutoencoder

Sums = NDArray[np.float64]
LossKey = tuple[int, float, int]
"""Layer, strength and number of the variant."""


@dataclass(frozen=True)
class TwoModels:
    """A later checkpoint, whose features are injected, and the earlier one they are put into."""

    source: Anatomy
    target: Anatomy


@dataclass(frozen=True)
class LayerInjection:
    """What is injected at one layer."""

    layer: int
    sae: SparseAutoencoder
    """The source model's, on the models' device."""
    variants: Sequence[Variant]
    mean_changes: Sequence[float] = ()
    """Mean norm by which each variant changes a token at strength 1, once it is measured."""


@dataclass(frozen=True)
class Losses:
    """Negative log-likelihoods in nats, summed by context and language of the document."""

    tokens: Sums
    """Predicted tokens `[context, language]`."""
    plain: Sums
    """Without injection, `[context, language]`."""
    injected: dict[LossKey, Sums]
    """With it, `[context, language]`."""


class PerplexityRun:
    """Two models on the same contexts."""

    def __init__(
        self,
        models: TwoModels,
        block: ContextBlock,
        method: Method,
        *,
        n_languages: int,
        batch_size: int,
    ) -> None:
        """Divide the contexts of `block` into batches, for a corpus of `n_languages`."""
        self._models = models
        self._runner = BlockRunner(models.target)
        self._method = method
        device = models.target.device
        self._batches = list(predicted_contexts(block, method.positions, batch_size, device))
        self._shape = (len(block.kept), n_languages)

    @torch.inference_mode()
    def matched(self, injection: LayerInjection) -> LayerInjection:
        """Scale the random controls of a layer to their groups' mean norms over these contexts."""
        variants, means = with_matched_norms(
            injection.variants, self._readings(injection), self._method, injection.sae.w_dec
        )
        return replace(injection, variants=variants, mean_changes=means)

    @torch.inference_mode()
    def losses(self, injections: Sequence[LayerInjection], alphas: Sequence[float]) -> Losses:
        """Measure every variant of every layer at every strength, and the model as it is.

        Raises:
            NotFiniteError: the target model's losses are NaN or infinite.
            RuntimeError: resuming the model above a layer differs from running it whole.
        """
        keys: list[LossKey] = [
            (injection.layer, alpha, number)
            for injection in injections
            for alpha in alphas
            for number in range(len(injection.variants))
        ]
        losses = Losses(self._zeros(), self._zeros(), {key: self._zeros() for key in keys})
        total = len(self._batches) * len(keys)
        with progress(total=total, label="perplexity", unit="pass") as bar:
            for number, batch in enumerate(self._batches):
                self._add(losses, batch, injections, alphas, bar.update, check=number == 0)
        return losses

    def check_in_float32(self, layers: Sequence[int]) -> CheckedInFloat32:
        """Resume above each layer in float32 on the first batch: log-probabilities are the same.

        Raises:
            RuntimeError: one changes by more than rounding.
        """
        batch = self._batches[0]
        with in_float32(self._models.target.model), torch.inference_mode():
            read = prefill(self._runner, batch.padded, layers, keep_contexts=False)
            plain = next_token_losses(self._models.target, read.output, batch)
            found = [self._check(batch, read, layer, plain) for layer in layers]
        return CheckedInFloat32(len(batch), max(found))

    def _add(
        self,
        losses: Losses,
        batch: PredictedContexts,
        injections: Sequence[LayerInjection],
        alphas: Sequence[float],
        on_pass: Callable[[], object],
        *,
        check: bool,
    ) -> None:
        """Add the losses of one batch."""
        layers = [injection.layer for injection in injections]
        sources = _streams(self._models.source, batch, layers)
        read = prefill(self._runner, batch.padded, layers, keep_contexts=False)
        plain = next_token_losses(self._models.target, read.output, batch)
        if not bool(plain.isfinite().all()):
            dtype = str(self._models.target.dtype).removeprefix("torch.")
            raise NotFiniteError.of_model("the target", "log-probabilities", dtype)
        _add_to(losses.tokens, batch, torch.ones_like(plain))
        _add_to(losses.plain, batch, plain)
        for injection in injections:
            if check:
                self._check(batch, read, injection.layer, plain)
            states, where = read.streams[injection.layer], batch.changed
            source = Reading.of(injection.sae, sources[injection.layer][where])
            target = Reading.of(injection.sae, states[where]) if self._method.reads_target else None
            for number, variant in enumerate(injection.variants):
                for alpha in alphas:
                    loss = plain
                    if len(variant.latents):
                        change = change_of(
                            variant, alpha, source, target, self._method, injection.sae.w_dec
                        )
                        changed = changed_states(states, where, change)
                        output = read.resume(injection.layer, changed)
                        loss = next_token_losses(self._models.target, output, batch)
                    _add_to(losses.injected[injection.layer, alpha, number], batch, loss)
                    on_pass()

    def _readings(self, injection: LayerInjection) -> Iterator[tuple[Reading, Reading | None]]:
        """What the autoencoder reads off both models at the changed tokens of every batch."""
        models = self._models
        wanted = [models.source, models.target] if self._method.reads_target else [models.source]
        for batch in progress(self._batches, label=f"norms, layer {injection.layer}", unit="batch"):
            streams = [_streams(anatomy, batch, [injection.layer]) for anatomy in wanted]
            readings = [
                Reading.of(injection.sae, stream[injection.layer][batch.changed])
                for stream in streams
            ]
            yield readings[0], readings[1] if len(readings) > 1 else None

    def _check(self, batch: PredictedContexts, read: Prefill, layer: int, plain: Tensor) -> float:
        """Largest difference of log-probabilities where the target goes on from its own stream."""
        output = read.resume(layer, read.streams[layer])
        resumed = next_token_losses(self._models.target, output, batch)
        difference = float((plain - resumed).abs().max()) if len(plain) else 0.0
        if not difference <= TOLERANCE[self._models.target.dtype]:
            raise RuntimeError(
                f"the model resumed above layer {layer} differs from the whole model by "
                f"{difference:.2g} in log-probability; injections cannot be trusted"
            )
        return difference

    def _zeros(self) -> Sums:
        return np.zeros(self._shape)


def _streams(
    anatomy: Anatomy, batch: PredictedContexts, layers: Sequence[int]
) -> dict[int, Tensor]:
    inputs = {**batch.padded.model_inputs(anatomy), "use_cache": False}
    return read_layers(anatomy, inputs, layers)


def _add_to(sums: Sums, batch: PredictedContexts, losses: Tensor) -> None:
    """Add losses `[prediction]` of a batch to sums `[context, language]`."""
    rows = batch.numbers.numpy()[batch.predicting.nonzero()[:, 0].cpu().numpy()]
    languages = batch.languages[batch.predicting].cpu().numpy()
    np.add.at(sums, (rows, languages), losses.double().cpu().numpy())
