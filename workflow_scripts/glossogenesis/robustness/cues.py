"""The cues of a feature: which tokens, and which pieces of text, it fires most strongly on.

The same fixed number of strongest activations is looked at for every feature, since both the
share of the most frequent token and the number of different ones depend on how many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.corpora.tokenised_posts import post_token_ids
from glossogenesis.errors import StudyError
from glossogenesis.features.grouping import places_in_groups
from glossogenesis.features.surface_forms import PostText

Integers = NDArray[np.int64]
Item = TypeVar("Item", int, str)

ACTIVATION = np.dtype(
    [("feature", "<i4"), ("value", "<f4"), ("post", "<i4"), ("column", "<i4"), ("token_id", "<i4")]
)
"""One activation of a feature: its token is at `column` of the post of that number."""

_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "label": pl.String,
    "rank": pl.Int32,  # among the label's features, 0 for the greatest d
    "feature": pl.Int32,
    "d": pl.Float32,
    "n": pl.Int32,  # activations that were looked at
    "top_token_id": pl.Int32,
    "top_token": pl.String,
    "top_token_share": pl.Float64,
    "unique_tokens": pl.Int32,
    "top_surface": pl.String,
    "top_surface_share": pl.Float64,
    "unique_surfaces": pl.Int32,
    "surfaces": pl.List(pl.String),  # the most frequent ones, with their counts
    "counts": pl.List(pl.Int32),
}
CUES_SCHEMA = pl.Schema(_COLUMNS)

SURFACES_NAMED = 5

_AT_LEAST_WAITING = 1 << 20


class StrongestActivations:
    """Keeps each feature's strongest activations of a stream; of equal ones those that come first.

    Memory is that of the activations kept, and of as many that wait to be compared.
    """

    def __init__(self, n_latents: int, number: int) -> None:
        """Keep at most `number` activations of each of `n_latents` features."""
        self._number = number
        self._kept = np.empty(0, ACTIVATION)
        # What a feature's activation must exceed to be among its strongest.
        self._bound = np.zeros(n_latents, np.float32)
        self._waiting: list[NDArray[np.void]] = []
        self._waits = 0
        self._at_most_waiting = max(_AT_LEAST_WAITING, n_latents * number)

    def add(
        self,
        features: Integers,
        values: NDArray[np.float32],
        posts: NDArray[np.int32],
        columns: NDArray[np.int32],
        token_ids: NDArray[np.int32],
    ) -> None:
        """Look at activations that come after all before, each [fired]; values are positive."""
        chosen = values > self._bound[features]
        activations = np.empty(int(chosen.sum()), ACTIVATION)
        given: tuple[NDArray[Any], ...] = (features, values, posts, columns, token_ids)
        for name, column in zip(ACTIVATION.names or (), given, strict=True):
            activations[name] = column[chosen]
        self._waiting.append(activations)
        self._waits += len(activations)
        if self._waits >= self._at_most_waiting:
            self._merge()

    def of_features(self, features: Sequence[int]) -> dict[int, NDArray[np.void]]:
        """Return the activations of some features, `ACTIVATION` each, strongest first."""
        self._merge()
        kept = self._kept["feature"]
        first = np.searchsorted(kept, features).tolist()
        end = np.searchsorted(kept, features, side="right").tolist()
        return {
            feature: self._kept[start:stop]
            for feature, start, stop in zip(features, first, end, strict=True)
        }

    def _merge(self) -> None:
        joined = np.concatenate([self._kept, *self._waiting])
        order = np.lexsort((-joined["value"], joined["feature"]))
        places = places_in_groups(joined["feature"][order].astype(np.int64))
        order = order[places < self._number]
        self._kept, self._waiting, self._waits = joined[order], [], 0
        full = places[places < self._number] == self._number - 1
        weakest = self._kept[full]
        self._bound[weakest["feature"]] = weakest["value"]


@dataclass(frozen=True)
class Cues:
    """What the strongest activations of one feature are on."""

    token_counts: Sequence[tuple[int, int]]
    """Token id and number of activations on it, most frequent first, of equal ones by id."""
    surface_counts: Sequence[tuple[str, int]]
    """Surface form and number, likewise, of equal ones by text."""

    @property
    def n(self) -> int:
        """Activations that were looked at."""
        return sum(count for _, count in self.token_counts)

    def row(self, vocabulary: Sequence[str]) -> dict[str, Any]:
        """The columns of `CUES_SCHEMA` that say what the cues are."""
        (token, of_token), (surface, of_surface) = self.token_counts[0], self.surface_counts[0]
        named = self.surface_counts[:SURFACES_NAMED]
        return {
            "n": self.n,
            "top_token_id": token,
            "top_token": vocabulary[token],
            "top_token_share": of_token / self.n,
            "unique_tokens": len(self.token_counts),
            "top_surface": surface,
            "top_surface_share": of_surface / self.n,
            "unique_surfaces": len(self.surface_counts),
            "surfaces": [each for each, _ in named],
            "counts": [count for _, count in named],
        }


def cues_of(
    activations: Mapping[int, NDArray[np.void]], corpus: TokenisedCorpus, split: str
) -> dict[int, Cues]:
    """Count tokens and surface forms of some features' activations, by feature.

    Raises:
        StudyError: the corpus has other tokens where the activations are.
    """
    if not activations:
        return {}
    joined = np.concatenate(list(activations.values()))
    surfaces = _surfaces_of(joined, corpus, split)
    bounds = np.cumsum([0, *map(len, activations.values())])
    return {
        feature: Cues(
            _by_frequency(of_feature["token_id"].tolist()),
            _by_frequency(surfaces[first : first + len(of_feature)]),
        )
        for (feature, of_feature), first in zip(activations.items(), bounds[:-1], strict=True)
    }


def cues_table(
    labels: Sequence[str],
    features: Sequence[Integers],
    d: NDArray[np.float32],
    cues: Mapping[int, Cues],
    vocabulary: Sequence[str],
) -> pl.DataFrame:
    """Return the rows of `cues.parquet`.

    Args:
        labels: names of the labels.
        features: features of each label, greatest d first.
        d: Cohen's d [label, feature].
        cues: of each of those features.
        vocabulary: text of each token, by token id.
    """
    rows = [
        {"label": label, "rank": rank, "feature": feature, "d": d[number, feature]}
        | cues[feature].row(vocabulary)
        for number, label in enumerate(labels)
        for rank, feature in enumerate(features[number].tolist())
    ]
    return pl.DataFrame(rows, schema=CUES_SCHEMA)


def _surfaces_of(activations: NDArray[np.void], corpus: TokenisedCorpus, split: str) -> list[str]:
    """Surface form of each activation's token."""
    pieces = corpus.token_bytes()
    token_ids = post_token_ids(corpus, split)
    surfaces = [""] * len(activations)
    order = np.argsort(activations["post"], kind="stable")
    number, text = -1, PostText.of([])
    for index in order.tolist():
        _, _, post, column, token_id = activations[index].tolist()
        ids = token_ids[post]
        if column >= len(ids) or ids[column] != token_id:
            raise StudyError(
                f"{corpus.folder}: holds other tokens than the activations were taken from; remake "
                "the activations with `snakemake --forcerun extract_post_activations`"
            )
        if post != number:
            number, text = post, PostText.of([pieces[each] for each in ids])
        surfaces[index] = text.surface(column)
    return surfaces


def _by_frequency(items: Sequence[Item]) -> list[tuple[Item, int]]:
    """Items with how often each occurs, most frequent first, of equal ones in their order."""
    return sorted(Counter(items).items(), key=lambda entry: (-entry[1], entry[0]))
