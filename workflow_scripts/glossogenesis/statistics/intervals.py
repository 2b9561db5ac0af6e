"""Confidence intervals of shares, means and differences of the same items.

Answers about one concept resemble each other (the same word, asked in several language pairs and
prompts), so the bootstrap here resamples concepts, not answers: a cluster bootstrap of the ratio
`sum of values / number of values` (Davison and Hinkley 1997, Bootstrap Methods and their
Application, section 3.8). A cluster is drawn as a whole, which makes a resample a vector of counts
per cluster, and all rows of a table share the same resamples: one matrix product serves thousands
of intervals, and two points of a figure are compared under the same draws. scipy.stats.bootstrap
gives the same intervals, one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Rows of a table that are resampled together: keeps the work array (resamples x rows) near 10 MB.
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Bootstrap:
    """How a bootstrap interval is made; `confidence` is 0.95 for 95 %."""

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples is {self.resamples}; at least 1 is needed")
        _check_confidence(self.confidence)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN ends where the data cannot give one (a single cluster)."""

    value: float
    low: float
    high: float


def by_halves(values: ArrayLike, *, top: float) -> Estimate:
    """The value of all items with a 95 % interval from the spread of random halves of them.

    What a half of n items varies by, given the n, is what n items vary by.

    Args:
        values: of all items, then of each half; NaN where a half has none.
        top: the greatest possible value; the least is 0.
    """
    value, *halves = np.asarray(values, dtype=np.float64).tolist()
    known = [half for half in halves if not np.isnan(half)]
    reach = float(ndtri(0.975)) * float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")
    return Estimate(*np.clip([value, value - reach, value + reach], 0, top).tolist())


def wilson_interval(
    correct: ArrayLike, n: ArrayLike, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Wilson score interval of `correct` successes out of `n`, elementwise, any shape.

    Wilson 1927; it keeps its coverage at shares near 0 and 1 and never leaves [0, 1]. Returns lower
    and upper ends, float64. ValueError where a count is below 0 or above `n`, or `n` is below 1.
    """
    _check_confidence(confidence)
    successes = np.asarray(correct, dtype=np.float64)
    trials = np.asarray(n, dtype=np.float64)
    if np.any(trials < 1) or np.any(successes < 0) or np.any(successes > trials):
        raise ValueError("a Wilson interval needs 0 <= correct <= n and n >= 1 in every row")
    return score_interval(successes / trials, trials, float(-ndtri((1 - confidence) / 2)))


def newcombe_interval(
    more: tuple[int, int], less: tuple[int, int], *, error: float = 0.05
) -> tuple[float, float]:
    """Interval of the share of `more` minus that of `less`, each successes and trials.

    Newcombe 1998, method 10: the Wilson ends of both shares, combined. `error` is the share of
    intervals that miss the difference, 0.05 for a confidence of 95 %.
    """
    first, second = more[0] / more[1], less[0] / less[1]
    shares, trials = np.array([first, second]), np.array([more[1], less[1]], dtype=np.float64)
    lows, highs = score_interval(shares, trials, float(-ndtri(error / 2)))
    below = np.sqrt((first - lows[0]) ** 2 + (highs[1] - second) ** 2)
    above = np.sqrt((second - lows[1]) ** 2 + (highs[0] - first) ** 2)
    return float(first - second - below), float(first - second + above)


def score_interval(share: Floats, n: Floats, z: Floats | float) -> tuple[Floats, Floats]:
    """Roots of `|share - p| = z sqrt(p (1 - p) / n)` in p; `n` need not be whole."""
    scale = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def cluster_bootstrap(
    values: ArrayLike, clusters: Sequence[object], bootstrap: Bootstrap | None = None
) -> Estimate:
    """Mean of `values` [n] with a percentile interval over resampled clusters.

    `clusters` [n] names the cluster of each value, for example its expected concept. ValueError
    where there are no values, or the lengths differ.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.size != len(clusters):
        raise ValueError(f"{numbers.size} values and {len(clusters)} clusters; equal, above 0")
    _, member = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    sums = np.bincount(member, weights=numbers)
    counts = np.bincount(member).astype(np.float64)
    low, high = bootstrap_ratios(sums[None], counts[None], bootstrap or Bootstrap())
    return Estimate(float(numbers.mean()), float(low[0]), float(high[0]))


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[object],
    bootstrap: Bootstrap | None = None,
) -> Estimate:
    """Mean of `second - first` over the same items, with an interval over resampled clusters.

    For two settings, or two checkpoints, that answered the same prompts: what the items share
    cancels, so the interval is narrower than that of two separate samples. All arguments are [n],
    item by item; ValueError where the lengths differ or there are no items.
    """
    left = np.asarray(first, dtype=np.float64)
    right = np.asarray(second, dtype=np.float64)
    if left.shape != right.shape:
        raise ValueError(f"{left.size} and {right.size} values; a paired difference needs pairs")
    return cluster_bootstrap(right - left, clusters, bootstrap)


def bootstrap_ratios(
    sums: ArrayLike, counts: ArrayLike, bootstrap: Bootstrap
) -> tuple[Floats, Floats]:
    """Percentile intervals of `sum(sums) / sum(counts)` over clusters, for many rows at once.

    Both arguments are [rows, clusters]: sum and number of the values of each cluster, the number at
    least 1. Returns lower and upper ends, float64 [rows], at percentiles of `tails`. With one
    cluster nothing can be resampled and both ends are NaN. Where every value is equal the interval
    has zero width; those of `clustered` do not collapse there.
    """
    numerators = np.asarray(sums, dtype=np.float64)
    denominators = np.asarray(counts, dtype=np.float64)
    if numerators.shape != denominators.shape or numerators.ndim != 2:
        raise ValueError(f"sums {numerators.shape}, counts {denominators.shape}; [rows, clusters]")
    if np.any(denominators < 1):
        raise ValueError("a cluster without values; leave it out")
    rows, clusters = numerators.shape
    if clusters < 2:
        return np.full(rows, np.nan), np.full(rows, np.nan)
    draws = times_drawn(clusters, bootstrap).astype(np.float64)
    levels = tails(clusters, bootstrap.confidence)
    ends = np.empty((2, rows))
    for start in range(0, rows, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        ratios = (draws @ numerators[part].T) / (draws @ denominators[part].T)
        ends[:, part] = np.quantile(ratios, levels, axis=0)
    return ends[0], ends[1]


def tails(items: int, confidence: float = 0.95) -> tuple[float, float]:
    """The shares of resamples below the lower and below the upper end, of so many items, 2 or more.

    Resamples of few items spread less than samples do, and less than Student's t allows for:
    percentiles at 2.5 and 97.5 % of the means of 8 items cover 88 %. The levels are moved out to
    make up for both (the expanded percentile interval: Hesterberg 2015, The American Statistician
    69:371, section 4.4).
    """
    reach = stdtrit(items - 1, (1 + confidence) / 2) * np.sqrt(items / (items - 1))
    tail = float(ndtr(-reach))
    return tail, 1 - tail


def times_drawn(clusters: int, bootstrap: Bootstrap) -> Integers:
    """How often each cluster is drawn: [resamples, clusters], each row adding up to `clusters`."""
    generator = np.random.default_rng(bootstrap.seed)
    even = np.full(clusters, 1 / clusters)
    drawn: Integers = generator.multinomial(clusters, even, size=bootstrap.resamples)
    return drawn


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a share between 0 and 1, such as 0.95")


def paired_score_interval(
    both: ArrayLike, lost: ArrayLike, gained: ArrayLike, neither: ArrayLike
) -> tuple[Floats, Floats]:
    """95 % interval of (gained - lost) / n, for paired counts, elementwise: a difference of shares.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: Wilson intervals of both shares,
    joined with their correlation. It keeps its coverage where nothing or everything is lost.

    Args:
        both: right before and after.
        lost: right before alone.
        gained: right after alone.
        neither: wrong both times.
    """
    a, b, c, d = (np.asarray(counts, dtype=np.float64) for counts in (both, lost, gained, neither))
    return joined_interval(a, b, c, d, float(-ndtri(0.025)))


def joined_interval(
    both: Floats, lost: Floats, gained: Floats, neither: Floats, z: Floats | float
) -> tuple[Floats, Floats]:
    """The interval of `paired_score_interval` at a quantile `z`; counts need not be whole."""
    a, b, c, d = both, lost, gained, neither
    n = a + b + c + d
    before, after = (a + b) / n, (a + c) / n
    before_low, before_high = score_interval(before, n, z)
    after_low, after_high = score_interval(after, n, z)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    excess = a * d - b * c
    corrected = np.where(excess > 0, np.maximum(excess - n / 2, 0), excess)
    correlation = np.where(product > 0, corrected / np.sqrt(np.where(product > 0, product, 1)), 0)

    def reach(of_after: Floats, of_before: Floats) -> Floats:
        square = of_after**2 - 2 * correlation * of_after * of_before + of_before**2
        return np.sqrt(np.maximum(square, 0))

    low = after - before - reach(after - after_low, before_high - before)
    high = after - before + reach(after_high - after, before - before_low)
    return np.clip(low, -1, 1), np.clip(high, -1, 1)


def with_shares(
    rows: pl.DataFrame, hits: str, n: str, where: pl.Expr | None = None
) -> pl.DataFrame:
    """Add share (`hits` / `n`), low and high: the 95 % Wilson interval; Float64.

    They are null where `n` is 0, and where `where` is not true.
    """
    wanted = pl.col(n) > 0 if where is None else (pl.col(n) > 0) & where
    chosen = rows.select(wanted.fill_null(False)).to_series().to_numpy()
    values = np.full((3, rows.height), np.nan)
    successes, trials = (rows[column].to_numpy()[chosen] for column in (hits, n))
    if trials.size:
        values[0, chosen] = successes / trials
        values[1:, chosen] = wilson_interval(successes, trials)
    return rows.with_columns(
        pl.Series(name, column, dtype=pl.Float64).fill_nan(None)
        for name, column in zip(("share", "low", "high"), values, strict=True)
    )
