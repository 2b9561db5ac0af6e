"""The examples of every feature: sequences in which it fired strongly, drawn at random.

A sequence is an example of a feature where the feature fired above a share of its maximum (Inaba et
al. 2025); the activating token is the one with the highest activation in the sequence, the first of
equal ones. Activations are compared with the 11 significant bits that are stored.

Of all examples of a feature a fixed number is drawn, those with the smallest of random numbers that
hash the seed, the feature and the sequence. So a draw depends on nothing else, and a smaller one is
the beginning of a larger one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossogenesis.features.grouping import places_in_groups
from glossogenesis.features.spool import TOKEN_IDS, FiredBlock, as_stored

_NOT_DRAWN = np.uint64(2**64 - 1)
_AT_LEAST_WAITING = 4096
"""Examples that wait for a place at least, before all that wait are given theirs."""


@dataclass(frozen=True)
class Examples:
    """Examples of all features; what is flat goes by feature and then in the order of the draw.

    Where a feature has fewer examples than there is room for, the rest of its room is meaningless.
    """

    tokens: NDArray[np.void]
    """The activating tokens, `TOKEN_IDS` [feature, room]."""
    activations: NDArray[np.float32]
    """Activation at the activating token [feature, room]."""
    counts: NDArray[np.int64]
    """Examples of each feature that are held here [feature]."""
    available: NDArray[np.int64]
    """Examples of each feature that they were drawn from [feature]."""

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
        here = slice(first, end)
        return Examples(
            self.tokens[here], self.activations[here], self.counts[here], self.available[here]
        )

    def drawn(self, number: int) -> Examples:
        """At most `number` examples of each feature, the first that were drawn."""
        counts = self.counts.clip(max=number)
        return Examples(
            self.tokens[:, :number], self.activations[:, :number], counts, self.available
        )

    def exactly(self, number: int) -> Examples:
        """So many examples of each feature that has them, and none of the others."""
        first = self.drawn(number)
        counts = np.where(first.counts == number, number, 0)
        return Examples(first.tokens, first.activations, counts, self.available)

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.void], NDArray[np.float32]]:
        """Number in its feature, activating token and activation of each example, [example]."""
        filled = self._filled
        return np.nonzero(filled)[1], self.tokens[filled], self.activations[filled]

    @property
    def _filled(self) -> NDArray[np.bool_]:
        filled: NDArray[np.bool_] = np.arange(self.tokens.shape[1]) < self.counts[:, None]
        return filled


@dataclass(frozen=True)
class _Candidates:
    """Examples that may be drawn, [candidate]."""

    latents: NDArray[np.int64]
    priorities: NDArray[np.uint64]
    tokens: NDArray[np.void]
    activations: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.latents)


class ExampleFinder:
    """Draws examples of every feature from blocks of whole sequences."""

    def __init__(
        self, maximum: NDArray[np.float32], threshold: float, limit: int, seed: int
    ) -> None:
        """Look for activations above `threshold` times the feature's maximum.

        Args:
            maximum: of each feature [feature].
            threshold: share of the maximum, from 0 to below 1.
            limit: examples of a feature that are drawn, all where it has fewer.
            seed: of the draw.
        """
        least = maximum.astype(np.float64) * threshold
        self._least = as_stored(least.astype(np.float32))
        self._seed = seed
        self._available = np.zeros(len(maximum), np.int64)
        # Written to at once, so that memory is taken now and not as examples are found.
        self._tokens = np.empty((len(maximum), limit), TOKEN_IDS)
        self._tokens.view(np.uint8).fill(0)
        self._activations = np.full((len(maximum), limit), np.nan, np.float32)
        self._priorities = np.full((len(maximum), limit), _NOT_DRAWN, np.uint64)
        self._waiting: list[_Candidates] = []
        self._room = max(_AT_LEAST_WAITING, self._priorities.size // 4)

    def add(self, block: FiredBlock) -> None:
        """Look through a block of whole sequences."""
        chosen = np.flatnonzero(block.values > self._least[block.latents])
        rows, latents = block.rows[chosen], block.latents[chosen]
        contexts = block.tokens["context"][rows]
        order = np.lexsort((rows, -block.values[chosen], contexts, latents))
        # The first of each feature and sequence has the highest activation there, the first of
        # equal ones.
        order = order[_starts(latents[order], contexts[order])]
        self._available += np.bincount(latents[order], minlength=len(self._available))
        priorities = _priorities(latents[order], contexts[order], self._seed)
        # The last place of a feature holds the largest number that is still among the drawn.
        drawn = priorities < self._priorities[latents[order], -1]
        order = order[drawn]
        self._waiting.append(
            _Candidates(
                latents[order],
                priorities[drawn],
                block.tokens[rows[order]],
                block.values[chosen[order]],
            )
        )
        if sum(map(len, self._waiting)) >= self._room:
            self._place()

    def found(self) -> Examples:
        """Return what was drawn, in the memory that was taken for it; add no more then."""
        self._place()
        counts = (self._priorities != _NOT_DRAWN).sum(axis=1)
        return Examples(self._tokens, self._activations, counts, self._available)

    def _place(self) -> None:
        """Give those that wait their places among the drawn, in the order of their numbers."""
        waiting, self._waiting = self._waiting, []
        latents = (
            np.concatenate([part.latents for part in waiting]) if waiting else np.zeros(0, int)
        )
        if not len(latents):
            return
        features = np.unique(latents)
        held = np.nonzero(self._priorities[features] != _NOT_DRAWN)
        held = features[held[0]], held[1]
        latents = np.concatenate([held[0], latents])
        priorities = np.concatenate(
            [self._priorities[held], *(part.priorities for part in waiting)]
        )
        tokens = np.concatenate([self._tokens[held], *(part.tokens for part in waiting)])
        activations = np.concatenate(
            [self._activations[held], *(part.activations for part in waiting)]
        )
        order = np.lexsort((priorities, latents))
        places = places_in_groups(latents[order])
        drawn = places < self._priorities.shape[1]
        order, places = order[drawn], places[drawn]
        where = latents[order], places
        self._priorities[where] = priorities[order]
        self._tokens[where] = tokens[order]
        self._activations[where] = activations[order]


def _priorities(
    latents: NDArray[np.int64], contexts: NDArray[np.int32], seed: int
) -> NDArray[np.uint64]:
    """A random number for each pair of feature and sequence (splitmix64, Steele et al. 2014)."""
    mixed = latents.astype(np.uint64) << np.uint64(32) | contexts.astype(np.uint64)
    for word in (np.uint64(seed), np.uint64(0)):
        mixed = (mixed ^ word) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _starts(latents: NDArray[np.int64], contexts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether each entry is the first of its feature and sequence, which stand together."""
    first = np.ones(len(latents), bool)
    first[1:] = (np.diff(latents) != 0) | (np.diff(contexts) != 0)
    return first
