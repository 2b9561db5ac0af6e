"""The cues of a feature: which tokens, and which pieces of text, it fires most strongly on.

The same fixed number of strongest activations is looked at for every feature, since both the
share of the most frequent token and the number of different ones depend on how many there are.

A surface form is the longest run of characters of one script around a token's first letter or
digit: カメラ for each of the tokens that it is made of. Latin letters and digits are one script, as
in `iPhone15`; a prolonged sound mark and a combining mark belong to the character before them. A
token without letters and digits has its first character other than a space as its surface form.
Forms are normalised as words are compared, so that ｶﾒﾗ is カメラ and `Camera` is `camera`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.lexicon import comparable
from glossogenesis.corpora.tokenised import TokenisedCorpus, post_token_ids
from glossogenesis.exceptions import StudyError
from glossogenesis.models.activation_order import places_in_groups

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

_BROKEN = "surrogateescape"
"""Bytes of no character, such as those of one that the end of a post cuts, stand for themselves."""

_SCRIPT_OF_WORD = {"DIGIT": "LATIN", "IDEOGRAPHIC": "CJK"}
"""First word of a character's Unicode name, where it is not the name of its script."""

_PROLONGED = "ー"

_MARK = "mark"
"""Stands for the script of characters that have the script of the character before them."""

_NONE = ""


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


@dataclass(frozen=True)
class PostText:
    """The text of one post, and which of its characters each token covers."""

    text: str
    first: NDArray[np.int64]
    """Index of the first character of each token [token]; a character that several tokens make up
    together belongs to all of them."""
    end: NDArray[np.int64]
    """Index of the character behind its last [token]."""
    scripts: tuple[str, ...]
    """Script of each character; empty where it is no letter and no digit."""

    @classmethod
    def of(cls, pieces: Sequence[bytes]) -> PostText:
        """Put a post together from the bytes of its tokens."""
        text = b"".join(pieces).decode("utf-8", errors=_BROKEN)
        widths = [len(character.encode("utf-8", errors=_BROKEN)) for character in text]
        # Where each byte's character is; one more for tokens of no bytes at the end.
        character_of_byte = np.append(np.repeat(np.arange(len(text)), widths), len(text))
        lengths = np.array([len(piece) for piece in pieces], np.int64)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        first = character_of_byte[starts]
        last = np.where(ends > starts, character_of_byte[np.maximum(ends - 1, 0)], first - 1)
        return cls(text, first, last + 1, scripts_of(text))

    def surface(self, token: int) -> str:
        """Return the surface form of a token, given by its index; empty where it has no bytes."""
        covered = range(int(self.first[token]), int(self.end[token]))
        lettered = next((index for index in covered if self.scripts[index]), None)
        if lettered is not None:
            return normalised(self._run(lettered))
        visible = (index for index in covered if not self.text[index].isspace())
        index = next(visible, covered.start if covered else None)
        return "" if index is None else normalised(self.text[index])

    def _run(self, index: int) -> str:
        """The longest run of the script of a character around it."""
        script, start, end = self.scripts[index], index, index + 1
        while start and self.scripts[start - 1] == script:
            start -= 1
        while end < len(self.text) and self.scripts[end] == script:
            end += 1
        return self.text[start:end]


def normalised(text: str) -> str:
    """Return text as words are compared, with its spaces; bytes of no character become �."""
    readable = text.encode("utf-8", errors=_BROKEN).decode("utf-8", errors="replace")
    return comparable(readable) or readable


def scripts_of(text: str) -> tuple[str, ...]:
    """Return the script of each character, such as `CJK`, `KATAKANA` or `LATIN`; empty for none."""
    scripts: list[str] = []
    for character in text:
        before = scripts[-1] if scripts else _NONE
        script = _script(character)
        lengthens = script == "KATAKANA" and _is_prolonged(character)
        if script == _MARK or (lengthens and before == "HIRAGANA"):
            script = before
        scripts.append(script)
    return tuple(scripts)


@cache
def _script(character: str) -> str:
    # Compatibility forms, such as ｶ and Ａ, are named after their width.
    plain = unicodedata.normalize("NFKC", character)[:1]
    category = unicodedata.category(plain) if plain else "Cn"
    if category[0] == "M":
        return _MARK
    # The ideographic zero counts as a letter number (Nl).
    if category[0] != "L" and category not in ("Nd", "Nl"):
        return _NONE
    word = unicodedata.name(plain, _NONE).replace("-", " ").partition(" ")[0]
    return _SCRIPT_OF_WORD.get(word, word)


def _is_prolonged(character: str) -> bool:
    return unicodedata.normalize("NFKC", character) == _PROLONGED
