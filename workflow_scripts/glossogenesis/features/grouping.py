"""Numbering the entries of groups that stand together in an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def places_in_groups(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each entry in its group, from 0, where equal groups stand together; int64 [entry].

    Groups are numbered from 0 up.
    """
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    lengths = np.diff(first, append=len(groups))
    places: NDArray[np.int64] = np.arange(len(groups)) - np.repeat(first, lengths)
    return places
