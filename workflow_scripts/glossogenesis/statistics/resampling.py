"""Resampling that the tables of the robustness study share: of posts, pairs, labels, features.

An item (a post, a pair of posts, ...) is drawn as a whole; a resample is a vector of how often each
item was drawn. Where a result is known by its counts alone, such as how many posts became wrong,
the bootstrap over posts is a multinomial draw of those counts: the same distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glossogenesis.statistics.intervals import Bootstrap, Estimate, tails
from glossogenesis.statistics.tests import sign_flip_p

Floats = NDArray[np.float64]

BOOTSTRAP = "95 % bootstrap over {}"
WILSON = "95 % Wilson"
NEWCOMBE = "95 % Newcombe"
BY_HALVES = "95 % by halves of posts"
OVER_DRAWS = "range over draws"
LEFT_OUT = "range, one label left out"


BY_SIGNS = "sign flips over {}"
BY_PERMUTATION = "permutation of {}"
BY_SWAPS = "swaps of the models, {} by {}"


@dataclass(frozen=True)
class Difference:
    """A difference, its interval, and the two-sided p of a test that there is none."""

    difference: float
    low: float
    high: float
    p: float


UNDEFINED = Difference(*[float("nan")] * 4)


@dataclass(frozen=True, eq=False)
class Ratio:
    """A ratio of sums over items: sum of `above` [item] by sum of `below` [item]."""

    above: Floats
    below: Floats

    @property
    def n(self) -> int:
        """Items that have a part in it."""
        return int((self.below != 0).sum())

    @property
    def value(self) -> float:
        """The ratio over all items; NaN where it is not defined."""
        return float(ratios(self.above.sum(), self.below.sum()))

    @property
    def parts(self) -> Floats:
        """Both, [item, 2]."""
        return np.stack([self.above, self.below], axis=1).astype(np.float64)


def mean_estimate(values: ArrayLike, bootstrap: Bootstrap) -> Estimate:
    """Mean of `values` [item] with a percentile interval; NaN where there are none."""
    numbers = np.asarray(values, dtype=np.float64)
    return ratio_estimate(numbers, np.ones_like(numbers), bootstrap)


def ratio_estimate(above: ArrayLike, below: ArrayLike, bootstrap: Bootstrap) -> Estimate:
    """Sum of `above` over sum of `below`, both [item], with a percentile interval over items.

    An item whose part of `below` is 0 has no part in it. NaN where the ratio is not defined; ends
    are NaN where it rests on one item.
    """
    ratio = Ratio(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64))
    if ratio.n < 2:
        return Estimate(ratio.value, np.nan, np.nan)
    times = resampled_counts(np.ones(ratio.below.size), bootstrap)
    low, high = interval_ends(_ratio_of(times @ ratio.parts), bootstrap, ratio.n)
    return Estimate(ratio.value, low, high)


def counts_estimate(
    cells: ArrayLike, statistic: Callable[[Floats], Floats], bootstrap: Bootstrap
) -> Estimate:
    """`statistic` of counts, with the interval of a bootstrap over what was counted.

    `cells` [cell] are counts of disjoint outcomes that together are all items; `statistic` maps
    counts [..., cell] to values [...]. Resamples in which it is not defined are left out.
    """
    counts = np.asarray(cells, dtype=np.float64)
    value = statistic(counts[None])[0]
    drawn = statistic(resampled_counts(counts, bootstrap))
    low, high = interval_ends(drawn, bootstrap, int(counts.sum()))
    return Estimate(float(value), low, high)


def resampled_counts(cells: ArrayLike, bootstrap: Bootstrap, stream: int = 0) -> Floats:
    """Counts of `cells` [cell] in resamples of the items: [resample, cell].

    `stream` draws others: what is measured on different posts is resampled apart.
    """
    counts = np.asarray(cells, dtype=np.float64)
    return _resampled_counts(tuple(counts.tolist()), bootstrap, stream)


@lru_cache(maxsize=32)
def _resampled_counts(cells: tuple[float, ...], bootstrap: Bootstrap, stream: int) -> Floats:
    """`resampled_counts`, drawn once for all that rests on the same items: half a table's time."""
    total = int(sum(cells))
    if total == 0:
        return np.zeros((bootstrap.resamples, len(cells)))
    generator = np.random.default_rng([bootstrap.seed, stream])
    shares = np.array(cells) / total
    drawn = generator.multinomial(total, shares, bootstrap.resamples).astype(np.float64)
    drawn.flags.writeable = False
    return drawn


def interval_ends(values: ArrayLike, bootstrap: Bootstrap, items: int) -> tuple[float, float]:
    """Percentile ends of values of resamples of so many items, NaN among them left out.

    Percentiles are those of `tails`. NaN where all values are, or there is a single item.
    """
    drawn = np.asarray(values, dtype=np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size or items < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, tails(items, bootstrap.confidence))
    return float(low), float(high)


def paired_means(first: ArrayLike, other: ArrayLike, bootstrap: Bootstrap) -> Difference:
    """Mean of `other - first` over the same items [item], by bootstrap and sign flips.

    NaN where there are fewer than two items.
    """
    differences = np.asarray(other, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if differences.size < 2:
        return UNDEFINED
    estimate = mean_estimate(differences, bootstrap)
    p = sign_flip_p(differences, resamples=bootstrap.resamples, seed=bootstrap.seed)
    return Difference(estimate.value, estimate.low, estimate.high, p)


@dataclass(frozen=True, eq=False)
class TwoSamples:
    """Means over items of some numbers in two models, observed, resampled and under the null.

    Whatever is a function of these means can be compared: it is computed again from the means of
    every resample, and of every arrangement in which items were exchanged between the models.
    """

    observed: tuple[Floats, Floats]
    """[number] of the first and of the other model."""
    resampled: tuple[Floats, Floats]
    """[resample, number] of both."""
    exchanged: tuple[Floats, Floats]
    """[arrangement, number] of both."""
    items: int
    """Those of the smaller sample."""

    def compare(
        self, statistic: Callable[[Floats], Floats], bootstrap: Bootstrap
    ) -> tuple[list[float], Difference]:
        """Both values of `statistic`, and other minus first.

        `statistic` maps means [..., number] to values [...]. p counts the arrangements whose
        difference is as large, the observed one among them.
        """
        values = [float(statistic(means[None])[0]) for means in self.observed]
        first, other = (statistic(means) for means in self.resampled)
        low, high = interval_ends(other - first, bootstrap, self.items)
        difference = values[1] - values[0]
        first, other = (statistic(means) for means in self.exchanged)
        p = exchange_p(difference, other - first)
        return values, Difference(difference, low, high, p)


def paired_samples(first: Floats, other: Floats, bootstrap: Bootstrap) -> TwoSamples:
    """The same items in both models, [item, number] each.

    Items are resampled together. Were the models alike, an item's two results could as well be
    swapped.
    """
    n = len(first)
    times = resampled_counts(np.ones(n), bootstrap) / n
    swapped = np.random.default_rng([bootstrap.seed, 2]).integers(0, 2, (bootstrap.resamples, n))
    observed = first.mean(axis=0), other.mean(axis=0)
    moved = swapped.astype(np.float64) @ (other - first) / n
    exchanged = observed[0] + moved, observed[1] - moved
    return TwoSamples(observed, (times @ first, times @ other), exchanged, n)


def independent_samples(first: Floats, other: Floats, bootstrap: Bootstrap) -> TwoSamples:
    """Items drawn apart, [item, number] each.

    They are resampled apart. Were the models alike, items could as well be permuted between them.
    """
    parts = (first, other)
    resampled = [
        resampled_counts(np.ones(len(part)), bootstrap, stream) @ part / len(part)
        for stream, part in enumerate(parts)
    ]
    pooled = np.concatenate(parts)
    assigned = np.zeros((bootstrap.resamples, len(pooled)))
    assigned[:, : len(first)] = 1
    assigned = np.random.default_rng([bootstrap.seed, 2]).permuted(assigned, axis=1)
    taken = assigned @ pooled
    return TwoSamples(
        (first.mean(axis=0), other.mean(axis=0)),
        (resampled[0], resampled[1]),
        (taken / len(first), (pooled.sum(axis=0) - taken) / len(other)),
        min(map(len, parts)),
    )


def paired_ratios(first: Ratio, other: Ratio, bootstrap: Bootstrap) -> Difference:
    """Ratio of `other` minus that of `first` over the same items; NaN below two items."""
    if len(first.above) < 2:
        return UNDEFINED
    return paired_samples(first.parts, other.parts, bootstrap).compare(_ratio_of, bootstrap)[1]


def exchange_p(observed: float, exchanged: Floats) -> float:
    """Two-sided p of a difference by those under the null, the observed one counted among them.

    NaN where the difference is not defined; arrangements in which it is not do not count.
    """
    under = exchanged[np.isfinite(exchanged)]
    if not np.isfinite(observed):
        return float("nan")
    # Arrangements that equal the observed one may differ from it by rounding.
    as_large = np.abs(under) >= abs(observed) * (1 - 1e-9)
    return float((as_large.sum() + 1) / (under.size + 1))


def ratios(above: ArrayLike, below: ArrayLike) -> Floats:
    """`above / below`, elementwise; NaN where `below` is 0."""
    numbers = np.asarray(above, dtype=np.float64)
    found: Floats = np.divide(
        numbers, below, out=np.full(numbers.shape, np.nan), where=np.asarray(below) != 0
    )
    return found


def _ratio_of(sums: Floats) -> Floats:
    """Ratios of sums, or of means over the same items, [..., 2]."""
    return ratios(sums[..., 0], sums[..., 1])
