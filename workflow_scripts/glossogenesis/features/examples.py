"""The examples of every feature: sequences in which it fired strongly, with their text.

A sequence is an example of a feature where the feature fired above a share of its maximum (Inaba et
al. 2025); the activating token is the one with the highest activation in the sequence, the first of
equal ones. Activations are compared with the 11 significant bits that are stored.

Of all examples of a feature a fixed number is drawn, those with the smallest of random numbers that
hash the seed, the feature and the sequence. So a draw depends on nothing else, and a smaller one is
the beginning of a larger one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.tokenised import ContextBlock, TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.features.firing import TOKEN_IDS, FiredBlock, as_stored
from glossogenesis.features.schemas import EXAMPLES_SCHEMA
from glossogenesis.models.activation_order import SPLIT, places_in_groups

_NOT_DRAWN = np.uint64(2**64 - 1)
_AT_LEAST_WAITING = 4096
"""Examples that wait for a place at least, before all that wait are given theirs."""

TOKENS_AROUND = 16
"""Tokens of text on either side of an activating token, within its document."""

EXAMPLES_AT_ONCE = 16_384

_CONTEXTS_AT_ONCE = 256


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


def examples_in_parts(
    examples: Examples,
    languages: NDArray[np.uint8],
    corpus: TokenisedCorpus,
    examples_at_once: int = EXAMPLES_AT_ONCE,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of `examples.parquet`, a bounded number at a time; at least one part.

    The corpus is read once a part, so that only one part's text is in memory.

    Args:
        examples: what to describe.
        languages: language of each example's activating token, 255 for none [example].
        corpus: the corpus that the activations were taken from.
        examples_at_once: rows of a part at most, where a feature has no more.

    Raises:
        StudyError: the corpus has other tokens where the examples are.
    """
    texts, pieces = corpus.vocabulary(), corpus.token_bytes()
    names = pl.Series([*corpus.languages, None], dtype=pl.String)
    bounds = np.append(0, np.cumsum(examples.counts))
    # Features are taken together while all that they might have fits.
    step = max(1, examples_at_once // examples.tokens.shape[1])
    for first in range(0, len(examples.counts), step):
        part = examples.of_features(first, first + step)
        numbers, tokens, activations = part.flat()
        token_languages = languages[bounds[first] : bounds[first] + len(tokens)]
        before, after = text_around(tokens, corpus, pieces)
        columns = {
            "feature": part.features + first,
            "example": numbers,
            **{name: tokens[name] for name in ("context", "column", "document", "token_id")},
            "token": [texts[token] for token in tokens["token_id"].tolist()],
            "token_language": names[token_languages.clip(max=len(corpus.languages))],
            "activation": activations,
            "before": before,
            "after": after,
        }
        yield pl.DataFrame(columns).cast(EXAMPLES_SCHEMA)


def text_around(
    tokens: NDArray[np.void], corpus: TokenisedCorpus, pieces: Sequence[bytes]
) -> tuple[list[str], list[str]]:
    """Return the text before and after each of some tokens of the held-out split.

    It is of their own document, `TOKENS_AROUND` tokens long at most; a character that is cut
    becomes �.

    Args:
        tokens: `TOKEN_IDS` [token], in any order.
        corpus: where they are.
        pieces: bytes of each token, by token id.
    """
    before, after = [""] * len(tokens), [""] * len(tokens)
    of_token = np.array(pieces, dtype=object)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    order = np.argsort(tokens["context"], kind="stable")
    contexts = tokens["context"][order]
    for block in corpus.blocks(SPLIT, _CONTEXTS_AT_ONCE):
        ends = np.searchsorted(contexts, (block.first, block.first + len(block.token_ids)))
        here = order[slice(*ends)]
        if not len(here):
            continue
        rows, columns = tokens["context"][here] - block.first, tokens["column"][here]
        ids = block.token_ids.numpy()
        _check_same(ids[rows, columns], tokens["token_id"][here], corpus)
        first, last = _within_documents(block, rows, columns)
        bounds = np.cumsum(np.pad(lengths[ids], ((0, 0), (1, 0))), axis=1)
        cuts = (bounds[rows, place] for place in (first, columns, columns + 1, last))
        places = zip(here, rows, *(cut.tolist() for cut in cuts), strict=True)
        joined = {row: b"".join(of_token[ids[row]].tolist()) for row in np.unique(rows).tolist()}
        for index, row, start, token, token_end, end in places:
            before[index] = joined[row][start:token].decode("utf-8", errors="replace")
            after[index] = joined[row][token_end:end].decode("utf-8", errors="replace")
    return before, after


def _within_documents(
    block: ContextBlock, rows: NDArray[np.int32], columns: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First column of the text before, and column behind the text after, [token]."""
    documents = block.documents.numpy()
    around = columns[:, None] + np.arange(-TOKENS_AROUND, TOKENS_AROUND + 1, dtype=np.int32)
    inside = (around >= 0) & (around < documents.shape[1])
    found = documents[rows[:, None], around.clip(0, documents.shape[1] - 1)]
    # Documents of a sequence follow each other, so those of the same number stand together.
    same = inside & (found == documents[rows, columns][:, None])
    left = same[:, :TOKENS_AROUND].sum(axis=1)
    right = same[:, TOKENS_AROUND + 1 :].sum(axis=1)
    return columns - left, columns + 1 + right


def _check_same(
    found: NDArray[np.int32], expected: NDArray[np.int32], corpus: TokenisedCorpus
) -> None:
    if (found != expected).any():
        raise StudyError(
            f"{corpus.folder}: holds other tokens than the activations were taken from; remake the "
            "activations with `snakemake --forcerun extract_activations`"
        )
