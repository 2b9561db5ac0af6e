"""Interval of the difference of two shares of the same items."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from glossogenesis.statistics.intervals import score_interval

Floats = NDArray[np.float64]


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
