"""How well the target model predicts text while features of the source model are injected.

Both models read a batch of contexts once. Whatever is then injected at a layer, only the target's
blocks above that layer run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import ContextBlock
from glossogenesis.exceptions import NotFiniteError
from glossogenesis.injection.method import (
    Control,
    Method,
    Reading,
    Variant,
    change_of,
    changed_states,
    with_matched_norms,
)
from glossogenesis.injection.tables import PERPLEXITY_SCHEMA
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import PredictedContexts, next_token_losses, predicted_contexts
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.models.capture import CheckedInFloat32, check_equal, in_float32, read_layers
from glossogenesis.models.prefill import Prefill, prefill
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.statistics.intervals import Bootstrap, bootstrap_ratios

Sums = NDArray[np.float64]
LossKey = tuple[int, float, int]
"""Layer, strength and number of the variant."""

ALL = "all"
"""Stands for all languages, their tokens pooled."""

CONTROLS: tuple[Control, ...] = ("random", "norm_matched")

Columns = dict[str, float | int | str | None]


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
        what = f"the model resumed above layer {layer} differs from the whole in log-probability"
        return check_equal(plain - resumed, self._models.target, what, "injections")

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


@dataclass(frozen=True)
class Item:
    """A variant of one layer at one strength: the key of a row, without what is measured."""

    layer: int
    alpha: float
    number: int
    """Place of the variant in its layer."""
    variant: Variant
    mean_change: float

    @property
    def columns(self) -> Columns:
        """The columns that say what is injected."""
        return {
            "layer": self.layer,
            "alpha": self.alpha,
            "group": self.variant.group,
            "control": self.variant.control,
            "draw": self.variant.draw,
            "features": len(self.variant.latents),
            "mean_change": self.alpha * self.mean_change,
        }


def items_of(injections: Sequence[LayerInjection], alphas: Sequence[float]) -> list[Item]:
    """Every variant of every layer at every strength, in the order of rows."""
    return [
        Item(injection.layer, alpha, number, variant, injection.mean_changes[number])
        for injection in injections
        for alpha in alphas
        for number, variant in enumerate(injection.variants)
    ]


def plain_columns(layer: int) -> Columns:
    """The columns of a row in which nothing is injected."""
    nothing: Columns = {"alpha": 0.0, "group": "none", "control": "none", "draw": None}
    return {"layer": layer, **nothing, "features": 0, "mean_change": 0.0}


def controls_of(item: Item, items: Sequence[Item], control: Control) -> list[Item]:
    """The draws of a control for a group; none where `item` is a control itself."""
    if item.variant.control != "none":
        return []
    return [
        other
        for other in items
        if other.variant.control == control
        and (other.layer, other.alpha, other.variant.group)
        == (item.layer, item.alpha, item.variant.group)
    ]


def pooled_controls(items: Sequence[Item]) -> Iterator[tuple[Columns, list[Item]]]:
    """Yield, for every control of every group, the columns of its draws' mean, and the draws."""
    for item in items:
        for control in CONTROLS:
            if draws := controls_of(item, items, control):
                yield {**draws[0].columns, "draw": None}, draws


def perplexity_table(
    losses: Losses,
    injections: Sequence[LayerInjection],
    alphas: Sequence[float],
    languages: Sequence[str],
    bootstrap: Bootstrap,
) -> pl.DataFrame:
    """Rows of `PERPLEXITY_SCHEMA`, with intervals over resampled contexts.

    The mean over a control's draws is a row too, whose interval resamples the contexts of all draws
    together.

    Args:
        losses: as measured; its languages are the corpus', in `languages`.
        injections: as measured, with the norms of their changes.
        alphas: strengths.
        languages: all of the corpus; those without tokens get no rows.
        bootstrap: how intervals are made.
    """
    items = items_of(injections, alphas)
    rows: list[Columns] = []
    for injection in injections:
        places: list[tuple[int | slice, str]] = [*enumerate(languages), (slice(None), ALL)]
        for place, language in places:
            there = _Tokens.of(losses.tokens, place)
            if len(there.contexts) == 0:
                continue
            plain = there.sums(losses.plain)
            key = plain_columns(injection.layer)
            rows.append({**key, **there.columns(language, plain, bootstrap)})
            of_layer = [item for item in items if item.layer == injection.layer]
            sums = {
                (item.alpha, item.number): there.sums(
                    losses.injected[item.layer, item.alpha, item.number]
                )
                for item in of_layer
            }
            for item in of_layer:
                own = sums[item.alpha, item.number]
                compared = there.difference("difference", own - plain, bootstrap)
                for control in CONTROLS:
                    draws = [
                        sums[other.alpha, other.number]
                        for other in controls_of(item, of_layer, control)
                    ]
                    if draws:
                        over = own - np.mean(draws, axis=0)
                        compared |= there.difference(f"over_{control}", over, bootstrap)
                shown = there.columns(language, own, bootstrap)
                rows.append({**item.columns, **shown, **compared})
            for pooled, drawn in pooled_controls(of_layer):
                mean = np.mean([sums[other.alpha, other.number] for other in drawn], axis=0)
                compared = there.difference("difference", mean - plain, bootstrap)
                rows.append({**pooled, **there.columns(language, mean, bootstrap), **compared})
    return pl.DataFrame(
        [{name: row.get(name) for name in PERPLEXITY_SCHEMA} for row in rows],
        schema=PERPLEXITY_SCHEMA,
        orient="row",
    )


@dataclass(frozen=True)
class _Tokens:
    """The predicted tokens of one language, or of all."""

    place: int | slice
    contexts: NDArray[np.int64]
    """Those that have such tokens."""
    counts: Sums
    """`[context]`"""

    @classmethod
    def of(cls, tokens: Sums, place: int | slice) -> _Tokens:
        counts = _over_languages(tokens, place)
        contexts = np.flatnonzero(counts)
        return cls(place, contexts, counts[contexts])

    def sums(self, losses: Sums) -> Sums:
        """Losses `[context]` of these tokens."""
        return _over_languages(losses, self.place)[self.contexts]

    def columns(self, language: str, sums: Sums, bootstrap: Bootstrap) -> Columns:
        """Perplexity with its interval."""
        mean, low, high = self._mean(sums, bootstrap)
        return {
            "language": language,
            "contexts": len(self.contexts),
            "tokens": int(self.counts.sum()),
            "nll": mean,
            "perplexity": float(np.exp(mean)),
            "perplexity_low": None if low is None else float(np.exp(low)),
            "perplexity_high": None if high is None else float(np.exp(high)),
        }

    def difference(self, name: str, sums: Sums, bootstrap: Bootstrap) -> Columns:
        """A mean difference of losses with its interval."""
        mean, low, high = self._mean(sums, bootstrap)
        return {name: mean, f"{name}_low": low, f"{name}_high": high}

    def _mean(self, sums: Sums, bootstrap: Bootstrap) -> tuple[float, float | None, float | None]:
        low, high = bootstrap_ratios(sums[None], self.counts[None], bootstrap)
        mean = float(sums.sum() / self.counts.sum())
        if np.isnan(low[0]):
            return mean, None, None
        return mean, float(low[0]), float(high[0])


def _over_languages(values: Sums, place: int | slice) -> Sums:
    return values[:, place] if isinstance(place, int) else values[:, place].sum(axis=1)
