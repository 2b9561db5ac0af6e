"""The examples of every feature: the first sequences in which it fired strongly.

A sequence is an example of a feature where the feature fired above a share of its maximum (Inaba et
al. 2025); the activating token is the one with the highest activation in the sequence, the first of
equal ones. Activations are compared with the 11 significant bits that are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossogenesis.features.grouping import places_in_groups
from glossogenesis.features.spool import TOKEN_IDS, FiredBlock, as_stored


@dataclass(frozen=True)
class Examples:
    """Examples of all features; what is flat goes by feature and then in the order of the corpus.

    Where a feature has fewer examples than there is room for, the rest of its room is meaningless.
    """

    tokens: NDArray[np.void]
    """The activating tokens, `TOKEN_IDS` [feature, room]."""
    activations: NDArray[np.float32]
    """Activation at the activating token [feature, room]."""
    counts: NDArray[np.int64]
    """Examples of each feature [feature]."""

    @property
    def features(self) -> NDArray[np.int64]:
        """Feature of each example [example]."""
        features: NDArray[np.int64] = np.repeat(np.arange(len(self.counts)), self.counts)
        return features

    def token_column(self, name: str) -> NDArray[Any]:
        """One of `TOKEN_IDS` of each activating token [example]."""
        column: NDArray[Any] = self.tokens[name][self._filled]
        return column

    def of_features(self, first: int, end: int) -> Examples:
        """The examples of the features from `first` to before `end`, which count from 0 there."""
        return Examples(self.tokens[first:end], self.activations[first:end], self.counts[first:end])

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.void], NDArray[np.float32]]:
        """Number in its feature, activating token and activation of each example, [example]."""
        filled = self._filled
        return np.nonzero(filled)[1], self.tokens[filled], self.activations[filled]

    @property
    def _filled(self) -> NDArray[np.bool_]:
        filled: NDArray[np.bool_] = np.arange(self.tokens.shape[1]) < self.counts[:, None]
        return filled


class ExampleFinder:
    """Finds the first examples of every feature in blocks that come in the order of the corpus."""

    def __init__(self, maximum: NDArray[np.float32], threshold: float, limit: int) -> None:
        """Look for activations above `threshold` times the feature's maximum.

        Args:
            maximum: of each feature [feature].
            threshold: share of the maximum, from 0 to below 1.
            limit: examples of a feature at most.
        """
        least = maximum.astype(np.float64) * threshold
        self._least = as_stored(least.astype(np.float32))
        self._limit = limit
        self._counts = np.zeros(len(maximum), np.int64)
        # Written to at once, so that memory is taken now and not as examples are found.
        self._tokens = np.empty((len(maximum), limit), TOKEN_IDS)
        self._tokens.view(np.uint8).fill(0)
        self._activations = np.full((len(maximum), limit), np.nan, np.float32)

    def add(self, block: FiredBlock) -> None:
        """Look through a block of whole sequences."""
        chosen = np.flatnonzero(
            (block.values > self._least[block.latents])
            & (self._counts[block.latents] < self._limit)
        )
        rows, latents = block.rows[chosen], block.latents[chosen]
        contexts = block.tokens["context"][rows]
        order = np.lexsort((rows, -block.values[chosen], contexts, latents))
        # The first of each feature and sequence has the highest activation there, the first of
        # equal ones.
        order = order[_starts(latents[order], contexts[order])]
        numbers = self._counts[latents[order]] + places_in_groups(latents[order])
        order, numbers = order[numbers < self._limit], numbers[numbers < self._limit]
        self._tokens[latents[order], numbers] = block.tokens[rows[order]]
        self._activations[latents[order], numbers] = block.values[chosen[order]]
        self._counts += np.bincount(latents[order], minlength=len(self._counts))

    def found(self) -> Examples:
        """Return what was found, in the memory that was taken for it; add no more then."""
        return Examples(self._tokens, self._activations, self._counts)


def _starts(latents: NDArray[np.int64], contexts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether each entry is the first of its feature and sequence, which stand together."""
    first = np.ones(len(latents), bool)
    first[1:] = (np.diff(latents) != 0) | (np.diff(contexts) != 0)
    return first
