"""The tokens on which each feature fires most often, in memory that does not grow.

The pairs of a feature and a token that occur are too many to count one by one. A first pass keeps a
bounded number of candidates a feature by the Misra-Gries summary, in the form that merges (Agarwal
et al. 2012, Mergeable Summaries): where a feature has more candidates than places, the count of the
first that has no place is taken from all of them. With m places, every token that makes up more
than 1 / (m + 1) of a feature's firings is kept for certain. A second pass counts the candidates
exactly; it is needed only where something was taken away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glossogenesis.features.grouping import places_in_groups

Integers = NDArray[np.int64]

PLACES = 32
"""Candidates of a feature: a token of more than 3 % of its firings is found for certain."""

_AT_LEAST_WAITING = 1 << 16
_TOKEN_BITS = 32


class TokenCounts:
    """Counts how often each feature fires on each token: `add` everything, then `recount` it."""

    def __init__(self, n_latents: int, places: int = PLACES) -> None:
        """Start with nothing counted, for a dictionary of `n_latents`."""
        self._places = places
        self._keys = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        # As many pairs wait as there are places, so that merging takes as long as counting.
        self._waiting = np.zeros(max(_AT_LEAST_WAITING, n_latents * places), np.int64)
        self._waits = 0
        self._recounted: Integers | None = None
        self.exact = True
        """Whether nothing was taken away, so that counts are exact without a second pass."""

    def add(self, latents: Integers, token_ids: NDArray[np.int32]) -> None:
        """Count firings of latents, each on a token, both [fired]."""
        keys = _keys(latents, token_ids)
        while len(keys):
            free = len(self._waiting) - self._waits
            taken, keys = keys[:free], keys[free:]
            self._waiting[self._waits : self._waits + len(taken)] = taken
            self._waits += len(taken)
            if self._waits == len(self._waiting):
                self._merge()

    def recount(self, latents: Integers, token_ids: NDArray[np.int32]) -> None:
        """Count the candidates among firings that were all added before, in the second pass."""
        self._merge()
        if self._recounted is None:
            self._recounted = np.zeros(len(self._keys), np.int64)
        keys, counts = np.unique(_keys(latents, token_ids), return_counts=True)
        places = np.searchsorted(self._keys, keys)
        places[places == len(self._keys)] = 0
        found = self._keys[places] == keys if len(self._keys) else np.zeros(len(keys), bool)
        self._recounted[places[found]] += counts[found]

    def most_frequent(self, number: int) -> tuple[Integers, Integers, Integers]:
        """Return the `number` most frequent tokens of each feature, ties by token id.

        Returns:
            features, token ids and counts, each int64 [entry], by feature, most frequent first.
        """
        self._merge()
        counts = self._counts if self._recounted is None else self._recounted
        features, token_ids = self._keys >> _TOKEN_BITS, self._keys & ((1 << _TOKEN_BITS) - 1)
        order = np.lexsort((token_ids, -counts, features))
        order = order[places_in_groups(features[order]) < number]
        return features[order], token_ids[order], counts[order]

    def _merge(self) -> None:
        if not self._waits:
            return
        keys, counts = np.unique(self._waiting[: self._waits], return_counts=True)
        self._waits = 0
        joined = np.concatenate([self._keys, keys])
        order = np.argsort(joined, kind="stable")
        joined = joined[order]
        counts = np.concatenate([self._counts, counts])[order]
        first = np.flatnonzero(np.diff(joined, prepend=-1))
        self._keys, self._counts = joined[first], np.add.reduceat(counts, first)
        self._shorten()

    def _shorten(self) -> None:
        """Take the count of each feature's first candidate without a place from all of its own."""
        features = self._keys >> _TOKEN_BITS
        order = np.lexsort((-self._counts, features))
        excess = order[places_in_groups(features[order]) == self._places]
        if not len(excess):
            return
        self.exact = False
        taken = np.zeros(int(features[-1]) + 1, np.int64)
        taken[features[excess]] = self._counts[excess]
        left = self._counts - taken[features]
        self._keys, self._counts = self._keys[left > 0], left[left > 0]


def _keys(latents: Integers, token_ids: NDArray[np.int32]) -> Integers:
    keys: Integers = latents << _TOKEN_BITS | token_ids.astype(np.int64)
    return keys
