"""Intervals and tests where values come in clusters or runs, and correction for many tests.

Answers about one concept resemble each other, so a cluster is one draw, with all its answers in all
language pairs that are pooled. The variance of `sum of hits / sum of answers` over clusters
(Cochran 1977, Sampling Techniques, section 6.3), which is what resampled clusters have in the
limit, says how many independent answers would be as precise. With that effective number an interval
of independent answers is taken (Kott and Carr 1997; Dean and Pagano 2015), with a quantile of
Student's t. Unlike percentiles of resamples it keeps its coverage with few clusters and near 0 and
1, where most resamples are alike.

Whoever calls gives sums over clusters, so that any number of rows costs one pass over the data.

A run is a model trained once, with one seed. Runs that differ in their seed alone differ by more
than an interval over posts says, which knows of a single run; so what is claimed of a model, or of
two, is tested against the variance between runs:

    variance of a mean over R runs = s^2 / R + w,

where s^2 is the variance of the runs' values and w that of what all runs were measured on (posts,
labels, concepts), as an interval of one run has it. w is not divided by R, since runs share the
posts; where they do not, the interval is wider than it need be. The reference is Student's t with
the degrees of freedom of Satterthwaite 1946 (An Approximate Distribution of Estimates of Variance
Components), which for few runs is much wider than the normal distribution.

Apart from the tests themselves, which import scipy.stats: a second of every job that only corrects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

from glossogenesis.statistics.intervals import joined_interval, score_interval

Floats = NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sums over the clusters of each row, all `[row]`.

    `y` is a cluster's sum of what is averaged, `n` its number of answers.
    """

    clusters: Floats
    total: Floats
    """Sum of y."""
    n: Floats
    """Sum of n."""
    squares: Floats
    """Sum of y squared."""
    products: Floats
    """Sum of y times n."""
    n_squares: Floats
    """Sum of n squared."""

    @classmethod
    def of(cls, y: ArrayLike, n: ArrayLike) -> ClusterSums:
        """Sum `y` and `n`, both [row, cluster]; a cluster without answers does not count."""
        sums, counts = (np.asarray(values, dtype=np.float64) for values in (y, n))
        return cls(
            (counts > 0).sum(axis=-1).astype(np.float64),
            sums.sum(axis=-1),
            counts.sum(axis=-1),
            (sums**2).sum(axis=-1),
            (sums * counts).sum(axis=-1),
            (counts**2).sum(axis=-1),
        )

    @property
    def mean(self) -> Floats:
        """Sum of y over sum of n."""
        mean: Floats = self.total / self.n
        return mean

    @property
    def variance(self) -> Floats:
        """Of the mean over drawn clusters; NaN with a single one."""
        mean = self.mean
        spread = self.squares - 2 * mean * self.products + mean**2 * self.n_squares
        with np.errstate(divide="ignore", invalid="ignore"):
            per_cluster = spread.clip(min=0) / (self.clusters - 1)
            found: Floats = self.clusters * per_cluster / self.n**2
        return np.where(self.clusters > 1, found, np.nan)

    def effective_number(self, variance_of_one: Floats) -> Floats:
        """Independent answers, each of `variance_of_one`, that have the same variance of the mean.

        Never more than there are answers. Where all answers agree, which says nothing of how
        clusters differ, it is the number of clusters.
        """
        variance = self.variance
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(variance > 0, variance_of_one / variance, self.clusters)
        effective: Floats = np.where(self.clusters > 1, np.minimum(found, self.n), np.nan)
        return effective

    def quantile(self, confidence: float) -> Floats:
        """Quantile of Student's t with a degree of freedom less than clusters; NaN with one."""
        degrees = np.where(self.clusters > 1, self.clusters - 1, np.nan)
        found: Floats = stdtrit(degrees, (1 + confidence) / 2)
        return found


def clustered_share_interval(
    sums: ClusterSums, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Interval of a share, where y is a cluster's hits: lower and upper ends, `[row]`.

    The Wilson score interval of the effective number of answers. NaN with a single cluster.
    """
    share = sums.mean
    n = sums.effective_number(share * (1 - share))
    return score_interval(share, n, sums.quantile(confidence))


def clustered_difference_interval(
    sums: ClusterSums, cells: Sequence[ArrayLike]
) -> tuple[Floats, Floats]:
    """95 % interval of (gained - lost) / n over the same items: lower and upper ends, `[row]`.

    The interval of `paired_score_interval`, of the effective number of items. NaN with a single
    cluster.

    Args:
        sums: where y is the number gained minus that lost of a cluster.
        cells: items `[row]` that are hits both times, lost, gained, and hits neither time.
    """
    both, lost, gained, neither = (np.asarray(cell, dtype=np.float64) for cell in cells)
    difference = sums.mean
    of_one = (lost + gained) / sums.n - difference**2
    kept = sums.effective_number(of_one) / sums.n
    return joined_interval(
        both * kept, lost * kept, gained * kept, neither * kept, sums.quantile(0.95)
    )


def whole_sign_flip_p(totals: ArrayLike) -> float:
    """Two-sided p of a sum of 0 of whole numbers `[cluster]`, by flipping signs; exact.

    Were two settings alike, the difference of each cluster would be as likely to have the other
    sign. All arrangements are counted, by the Fourier transform of their sum's distribution; those
    that equal the observed sum count half (mid-p: Lancaster 1961, Journal of the American
    Statistical Association 56:223), since sums of whole numbers often tie. p is 1 where all are 0.
    """
    sizes, counts = np.unique(np.abs(np.asarray(totals, dtype=np.int64)), return_counts=True)
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    length = int(sizes @ counts) + 1
    # With each sign equally likely, (sum + largest) / 2 is a sum of sizes that are in or out.
    turns = np.exp(-2j * np.pi * np.outer(np.arange(length // 2 + 1) / length, sizes))
    transform = np.prod(((1 + turns) / 2) ** counts, axis=1)
    chances = np.fft.irfft(transform, length).clip(min=0)
    place = (length - 1 + abs(int(np.sum(totals)))) // 2
    p = 2 * chances[place + 1 :].sum() + chances[place]
    return float(np.clip(p, 2.0 ** -int(counts.sum()), 1))


@dataclass(frozen=True)
class RunEstimate:
    """A mean over runs or a difference of two, its interval, and the two-sided p of 0.

    All but the value are NaN where there is a single run, and p where nothing varies.
    """

    value: float
    low: float
    high: float
    p: float


def mean_over_runs(values: ArrayLike, *, within: float, items: int) -> RunEstimate:
    """Mean of `values` [run].

    Args:
        values: what each run measured; not empty.
        within: variance of one run's value over the items that it was measured on.
        items: how many items those are; 1 or more.
    """
    runs = np.asarray(values, dtype=np.float64)
    return _estimate(float(runs.mean()), [_between(runs), (within, items - 1)])


def difference_over_runs(
    first: ArrayLike, other: ArrayLike, *, within: float, items: int
) -> RunEstimate:
    """Mean of `other` [run] minus mean of `first` [run], of two models.

    Arguments as of `mean_over_runs`; `within` is the variance of the difference of two runs.
    """
    runs = [np.asarray(values, dtype=np.float64) for values in (first, other)]
    parts = [*map(_between, runs), (within, items - 1)]
    return _estimate(float(runs[1].mean() - runs[0].mean()), parts)


def variance_of_interval(low: ArrayLike, high: ArrayLike) -> float:
    """Mean variance that intervals [run] of 95 % stand for; 0 where there are none."""
    widths = np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64)
    known = widths[np.isfinite(widths)]
    z = ndtri((1 + CONFIDENCE) / 2)
    return float(np.mean((known / (2 * z)) ** 2)) if known.size else 0.0


def _between(runs: np.ndarray) -> tuple[float, int]:
    """Variance of a mean over runs, and its degrees of freedom."""
    if len(runs) < 2:
        return float("nan"), 0
    return float(runs.var(ddof=1) / len(runs)), len(runs) - 1


def _estimate(value: float, parts: Sequence[tuple[float, int]]) -> RunEstimate:
    """`value` with the t interval of a sum of variances, each with its degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    if not np.isfinite(total):
        return RunEstimate(value, *[float("nan")] * 3)
    if total == 0:
        return RunEstimate(value, value, value, float("nan"))
    spread = sum(variance**2 / max(degrees, 1) for variance, degrees in parts)
    degrees, error = total**2 / spread, float(np.sqrt(total))
    reach = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    p = float(2 * stdtr(degrees, -abs(value) / error))
    return RunEstimate(value, value - reach, value + reach, p)


def adjusted(p: ArrayLike) -> Floats:
    """Return p-values `[test]` corrected for a false discovery rate (Benjamini and Hochberg 1995).

    NaN stays NaN and is not counted among the tests.
    """
    values = np.asarray(p, dtype=np.float64)
    result = np.full_like(values, np.nan)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    ranks = np.arange(1, order.size + 1)
    scaled = values[order] / (ranks / order.size)
    result[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return result
