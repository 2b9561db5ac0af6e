"""Pairs of a clean and a corrupted post: both classified correctly, unlike in label, else alike.

Alike are posts whose mean-pooled final states have a high cosine. Every pair of posts has a random
number that depends on the seed and the two posts alone. Pairs are taken in the order of these
numbers, each only where neither post is in a pair already: a post is in one pair at most, so that
pairs are independent and intervals over them hold. In pairs that share posts an unusual post counts
several times, and tests of a true null find a difference in 9 to 24 of 100 cases instead of 5.

That order need not be walked through: a pair that has the smallest number of all that qualify with
either of its posts is certainly taken. So each pass over blocks of posts takes all such pairs, and
the next one looks at the posts that remain; no block needs to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.storage.tensors import read_tensors

PAIRS_SCHEMA = pl.Schema(
    {
        "set": pl.String,
        "pair": pl.Int32,
        "clean": pl.Int32,
        "corrupted": pl.Int32,
        "clean_label": pl.String,
        "corrupted_label": pl.String,
        "cosine": pl.Float32,
    }
)
"""`pair` counts from 0 in its set; `clean` and `corrupted` are numbers of held-out posts; `cosine`
is that of the model whose file it is."""

# Posts whose cosines with all others are in memory together: 13 MB at 13,000 posts, each model.
POSTS_AT_ONCE = 256

_FIX = "remake it with `snakemake --forcerun classify_posts`"


@dataclass(frozen=True, eq=False)
class CandidatePosts:
    """What one model's classifier makes of the held-out posts, by their numbers."""

    path: Path
    """The file of predictions."""
    labels: NDArray[np.str_]
    """`[post]`: the true label."""
    correct: NDArray[np.bool_]
    """`[post]`: whether the classifier gives that label."""
    states: NDArray[np.float32]
    """`[post, d_model]`: the mean-pooled final state, scaled to length 1."""
    beats_chance: bool
    """Whether the classifier is better than always giving the most frequent label."""


@dataclass(frozen=True, eq=False)
class DrawnPairs:
    """Pairs drawn from those that qualify."""

    clean: NDArray[np.int64]
    """`[pair]`: number of the clean post."""
    corrupted: NDArray[np.int64]
    """`[pair]`: number of the corrupted post."""
    qualifying: int
    """How many pairs they were drawn from."""
    highest_cosine: float
    """Of all correctly classified posts that differ in label; -inf where there are no two."""


def read_candidates(predictions: Path, states: Path, tensor: str) -> CandidatePosts:
    """Read what `classify_posts` wrote; `tensor` names the final states, `normed` or `residual`.

    StudyError where a file is missing or damaged, or the two do not fit each other.
    """
    table = read_table(predictions)
    pooled = read_tensors(states, [tensor])[tensor].float().numpy()
    if table["number"].to_list() != list(range(table.height)):
        raise StudyError(f"{predictions}: posts are not numbered in order; {_FIX}")
    if pooled.ndim != 2 or len(pooled) != table.height:
        raise StudyError(
            f"{states}: `{tensor}` has shape {pooled.shape} for {table.height} posts; {_FIX}"
        )
    if not np.isfinite(pooled).all():
        post = int(np.flatnonzero(~np.isfinite(pooled).all(axis=1))[0])
        raise StudyError(f"{states}: the final state of post {post} is not finite; {_FIX}")
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return CandidatePosts(
        path=predictions,
        labels=table["label"].to_numpy().astype(np.str_),
        correct=(table["label"] == table["predicted"]).to_numpy(),
        states=pooled / np.maximum(length, np.finfo(np.float32).tiny),
        beats_chance=bool(read_provenance(predictions).facts["beats_chance"]),
    )


def select_pairs(
    models: Sequence[CandidatePosts],
    name: str,
    *,
    number: int,
    minimum_cosine: float,
    seed: int,
    may_be_empty: bool = False,
) -> DrawnPairs:
    """Draw pairs that qualify in each of `models`; none where one of them is at chance.

    `name` is that of the set, for messages; other arguments as in `draw_pairs`.

    Raises:
        StudyError: no pair qualifies though all models beat chance, unless `may_be_empty`; or the
            models classified different posts.

    """
    first = models[0]
    for other in models[1:]:
        if not np.array_equal(first.labels, other.labels):
            raise StudyError(
                f"{other.path}: other posts than in {first.path}; remake both with "
                "`snakemake --forcerun classify_posts`"
            )
    if not all(model.beats_chance for model in models):
        return DrawnPairs(np.empty(0, np.int64), np.empty(0, np.int64), 0, -np.inf)
    drawn = draw_pairs(models, number=number, minimum_cosine=minimum_cosine, seed=seed)
    if drawn.qualifying or may_be_empty:
        return drawn
    if np.isneginf(drawn.highest_cosine):
        raise StudyError(
            f"{first.path}: no two correctly classified posts differ in label, so that set "
            f"{name!r} has no pairs; train longer under `robustness.classifier`"
        )
    raise StudyError(
        f"{first.path}: no pair of set {name!r} reaches the cosine {minimum_cosine:g}; the highest "
        f"between correctly classified posts of different labels is {drawn.highest_cosine:.4f}: "
        "lower `robustness.pairs.minimum_cosine`"
    )


def draw_pairs(
    models: Sequence[CandidatePosts], *, number: int, minimum_cosine: float, seed: int
) -> DrawnPairs:
    """Draw at most `number` unordered pairs without a common post, and which post of each is clean.

    A pair qualifies where every model classifies both posts correctly, their labels differ, and the
    cosine of their states is at least `minimum_cosine` in every model.
    """
    free = np.flatnonzero(np.logical_and.reduce([model.correct for model in models]))
    first_pass = _nearest(models, free, minimum_cosine, seed)
    taken, found = [np.empty((3, 0), dtype=np.int64)], first_pass
    while found.pairs.size:
        taken.append(found.pairs)
        free = np.setdiff1d(free, found.pairs[1:], assume_unique=True)
        found = _nearest(models, free, minimum_cosine, seed)
    drawn, first, second = _smallest(np.concatenate(taken, axis=1), number)
    swapped = drawn % 2 == 1
    return DrawnPairs(
        clean=np.where(swapped, second, first),
        corrupted=np.where(swapped, first, second),
        qualifying=first_pass.qualifying,
        highest_cosine=min(first_pass.highest_cosine, 1.0),
    )


@dataclass(frozen=True, eq=False)
class _Pass:
    """What one pass over the posts that are free finds."""

    pairs: NDArray[np.int64]
    """`[3, pair]`: random number, first and second post, of pairs that are certainly taken."""
    qualifying: int
    highest_cosine: float


def _nearest(
    models: Sequence[CandidatePosts], free: NDArray[np.int64], minimum_cosine: float, seed: int
) -> _Pass:
    """Pairs of `free` posts that have the smallest number of all that qualify with either post."""
    labels = models[0].labels
    least = np.full(len(labels), np.iinfo(np.int64).max)
    partner = np.full(len(labels), -1)
    qualifying, highest = 0, -np.inf
    for start in range(0, len(free), POSTS_AT_ONCE):
        rows, columns = free[start : start + POSTS_AT_ONCE], free[start:]
        cosine = np.minimum.reduce(
            [model.states[rows] @ model.states[columns].T for model in models]
        )
        counted = (columns > rows[:, None]) & (labels[columns] != labels[rows, None])
        cosine[~counted] = -np.inf
        highest = max(highest, float(cosine.max()))
        qualifies = cosine >= minimum_cosine
        qualifying += int(qualifies.sum())
        for post, row in zip(rows, qualifies, strict=True):
            others = columns[row]
            if others.size:
                numbers = _numbers(post, len(labels), seed)[others]
                less = numbers < least[others]
                least[others[less]], partner[others[less]] = numbers[less], post
                smallest = numbers.argmin()
                if numbers[smallest] < least[post]:
                    least[post], partner[post] = numbers[smallest], others[smallest]
    first = free[(partner[free] > free) & (partner[partner[free]] == free)]
    return _Pass(np.stack([least[first], first, partner[first]]), qualifying, highest)


def pair_table(name: str, drawn: DrawnPairs, posts: CandidatePosts) -> pl.DataFrame:
    """Rows of `PAIRS_SCHEMA`: the pairs of set `name` with their cosines in one model."""
    clean, corrupted = drawn.clean, drawn.corrupted
    cosine = np.einsum("pd,pd->p", posts.states[clean], posts.states[corrupted])
    return pl.DataFrame(
        {
            "set": [name] * len(clean),
            "pair": np.arange(len(clean)),
            "clean": clean,
            "corrupted": corrupted,
            "clean_label": posts.labels[clean].tolist(),
            "corrupted_label": posts.labels[corrupted].tolist(),
            "cosine": cosine.clip(-1, 1),
        },
        schema=PAIRS_SCHEMA,
    )


def _numbers(post: int, posts: int, seed: int) -> NDArray[np.int64]:
    """Random numbers of the pairs of one post with every later one, `[post]`.

    The last bit says which post is clean, those above it in which order pairs are taken.
    """
    return np.random.default_rng([seed, post]).integers(0, 2**63 - 1, size=posts, endpoint=True)


def _smallest(pairs: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """The `number` pairs `[3, pair]` with the smallest random numbers, in their order."""
    return pairs[:, np.argsort(pairs[0] >> 1, kind="stable")[:number]]
