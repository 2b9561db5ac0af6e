"""Means and differences over runs: the variance between runs of one model is their error.

A run is a model trained once, with one seed. Runs that differ in their seed alone differ by more
than an interval over posts says, which knows of a single run; so what is claimed of a model, or of
two, is tested against the variance between runs:

    variance of a mean over R runs = s^2 / R + w,

where s^2 is the variance of the runs' values and w that of what all runs were measured on (posts,
labels, concepts), as an interval of one run has it. w is not divided by R, since runs share the
posts; where they do not, the interval is wider than it need be. The reference is Student's t with
the degrees of freedom of Satterthwaite 1946 (An Approximate Distribution of Estimates of Variance
Components), which for few runs is much wider than the normal distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

CONFIDENCE = 0.95


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
