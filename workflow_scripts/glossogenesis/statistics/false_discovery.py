"""Correction for many tests at once.

Apart from the tests themselves, which import scipy.stats: a second of every job that only corrects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


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
