"""From losses of injections to rows of `perplexity.parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.injection.method import Control, Variant
from glossogenesis.injection.perplexity import LayerInjection, Losses, Sums
from glossogenesis.patching.injection_rows import PERPLEXITY_SCHEMA
from glossogenesis.statistics.intervals import Bootstrap, bootstrap_ratios

ALL = "all"
"""Stands for all languages, their tokens pooled."""

CONTROLS: tuple[Control, ...] = ("random", "norm_matched")

Columns = dict[str, float | int | str | None]


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
