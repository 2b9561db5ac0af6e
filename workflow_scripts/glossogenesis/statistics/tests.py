"""Permutation tests of differences.

The sign-flip test is for paired values: were two models alike, the difference of each label would
be as likely to have the other sign. Neither test assumes a distribution (Good 2005, Permutation,
Parametric and Bootstrap Tests of Hypotheses, chapter 3).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import permutation_test

Floats = NDArray[np.float64]

# Arrangements that scipy forms at a time: bounds the work array (arrangements x values).
_ARRANGEMENTS_AT_ONCE = 4096


def sign_flip_p(differences: ArrayLike, *, resamples: int, seed: int) -> float:
    """Two-sided p of a mean difference `[n]` of 0, by flipping signs of the differences.

    All 2^n arrangements are counted where they are at most `resamples`; else so many are drawn, and
    the observed one is counted among them, so that p is never 0. One difference cannot be tested:
    p is 1. Without any p is NaN, which `adjusted` does not count.

    Raises:
        ValueError: a difference is NaN or infinite, or `resamples` is below 1.
    """
    values = _finite(differences, resamples)
    if values.size < 2:
        return 1.0 if values.size else float("nan")
    return _p((values,), _mean, "samples", resamples, seed)


def permutation_p(first: ArrayLike, second: ArrayLike, *, resamples: int, seed: int) -> float:
    """Two-sided p of equal means of two independent samples, by dividing their values again.

    Exact where there are at most `resamples` divisions, else drawn as in `sign_flip_p`. Where a
    sample has fewer than two values p is NaN: scipy, which computes this, wants two.

    Raises:
        ValueError: a value is NaN or infinite, or `resamples` is below 1.
    """
    samples = tuple(_finite(values, resamples) for values in (first, second))
    if min(values.size for values in samples) < 2:
        return float("nan")
    return _p(samples, _difference_of_means, "independent", resamples, seed)


def _p(
    samples: tuple[Floats, ...],
    statistic: Callable[..., Floats],
    kind: str,
    resamples: int,
    seed: int,
) -> float:
    found = permutation_test(
        samples,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=resamples,
        batch=_ARRANGEMENTS_AT_ONCE,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _mean(values: Floats, axis: int) -> Floats:
    means: Floats = values.mean(axis=axis)
    return means


def _difference_of_means(first: Floats, second: Floats, axis: int) -> Floats:
    return _mean(second, axis) - _mean(first, axis)


def _finite(values: ArrayLike, resamples: int) -> Floats:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed")
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError("a permutation test needs finite values in one row; leave out the others")
    return numbers
