"""How strongly a feature tells the posts of a label from all others: Cohen's d, and label variety.

    d(f, l) = (mean of l's posts - mean of the rest) / s,
    s^2 = ((n_l - 1) s_l^2 + (n_rest - 1) s_rest^2) / (n_l + n_rest - 2),

over a post's pooled activation of the feature, with sample variances (Cohen 1988, Statistical Power
Analysis for the Behavioral Sciences, section 2.5). Where s is 0, or one side has no posts, d is 0.
The label variety of a feature is the number of labels whose d exceeds a threshold; the
label-specific share is that of features with variety 1 among those with variety 1 or more.

A count of d above a threshold rises with the noise in d: more features stand below the threshold
than above it, so more are lifted over it than fall below. Resampling adds the same noise once more,
so an interval of resampled counts lies above the count. Here as much noise as d has is added once
more, which gives the count that is expected then, and the rise is taken off: 2 x (count) - (count
expected with twice the noise), the simplest form of SIMEX (Cook and Stefanski 1994, Simulation-
Extrapolation Estimation in Parametric Measurement Error Models). The noise is that of d in large
samples, sqrt(1/n_l + 1/n_rest + d^2 / 2n) (Hedges and Olkin 1985, section 5.E). The error of the
corrected count is that of random halves of the posts, corrected in the same way: what a half of n
posts varies by, given the n, is what n posts vary by.

Everything follows from sums and sums of squares a label, so that posts can be streamed, and from
sparse products, so that resamples of posts and shuffled labels cost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

from glossogenesis.exceptions import StudyError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDING = 1e-12
"""A variance below this share of the mean square is what rounding leaves of 0."""

_VALUES_AT_ONCE = 1 << 21

Features = NDArray[np.int64]
Frequencies = NDArray[np.float64]


@dataclass(frozen=True)
class Specificity:
    """How label-specific the features of a dictionary are."""

    specific: int
    """Features of label variety 1."""
    distinguishing: int
    """Features of label variety 1 or more."""
    mean_variety: float
    """Mean label variety of all features."""

    @classmethod
    def of(cls, variety: Integers) -> Specificity:
        """Sum up the label varieties [feature]."""
        specific, distinguishing = int((variety == 1).sum()), int((variety >= 1).sum())
        return cls(specific, distinguishing, float(variety.mean()))

    @property
    def share(self) -> float | None:
        """Label-specific share; None where no feature distinguishes a label."""
        return self.specific / self.distinguishing if self.distinguishing else None


@dataclass(frozen=True)
class SpecificityDraws:
    """The same figures for several parts of the posts, or shuffles of labels."""

    share: Floats
    """[draw]; NaN where no feature distinguishes a label."""
    mean_variety: Floats
    """[draw]."""

    def mean(self, name: str) -> float | None:
        """Mean of a figure over the draws that have a value; None where none has."""
        values = getattr(self, name)
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else None


def cohens_d(posts: Floats, sums: Floats, squares: Floats) -> NDArray[np.float32]:
    """Return Cohen's d of each label's posts against all others.

    Rounded to the precision that tables have, so that orders and thresholds agree with them.

    Args:
        posts: number of posts of each label [..., label].
        sums: sums of their pooled activations, float64 [..., label, feature].
        squares: sums of the squares, the same.

    Returns:
        [..., label, feature].
    """
    n = posts[..., None]
    n_rest = n.sum(axis=-2, keepdims=True) - n
    rest, all_squares = sums.sum(axis=-2, keepdims=True) - sums, squares.sum(axis=-2, keepdims=True)
    within = _about_mean(n, sums, squares) + _about_mean(n_rest, rest, all_squares - squares)
    within[within <= _ROUNDING * all_squares] = 0
    deviation = np.sqrt(within / np.maximum(n + n_rest - 2, 1))
    difference = sums / np.maximum(n, 1) - rest / np.maximum(n_rest, 1)
    defined = (deviation > 0) & (n > 0) & (n_rest > 0) & (n + n_rest > 2)
    d = np.divide(difference, deviation, out=np.zeros_like(sums), where=defined)
    rounded: NDArray[np.float32] = d.astype(np.float32)
    return rounded


def _about_mean(n: Floats, sums: Floats, squares: Floats) -> Floats:
    """Sum of squares about the mean, of a sum and a sum of squares."""
    about: Floats = np.maximum(squares - sums**2 / np.maximum(n, 1), 0)
    return about


def label_variety(d: NDArray[np.float32], threshold: float) -> Integers:
    """Return how many labels' d [..., label, feature] exceeds a threshold, [..., feature]."""
    variety: Integers = (d > threshold).sum(axis=-2)
    return variety


def corrected_specificity(
    pooled: Any, label_ids: Integers, n_labels: int, threshold: float, *, resamples: int, seed: int
) -> SpecificityDraws:
    """Share and mean variety without what noise in d adds: of all posts, then of random halves.

    Halves of equal labels and seed have the same posts, whatever the features.

    Args:
        pooled: pooled activation of each post, scipy sparse array [post, feature].
        label_ids: label of each post [post].
        n_labels: labels, also such that no post has.
        threshold: what d must exceed.
        resamples: how many halves, which `statistics.intervals.by_halves` takes.
        seed: seed of the halves.
    """
    generator = np.random.default_rng([seed, 0])
    halves = [_half(label_ids, generator) for _ in range(resamples)]
    parts = [np.arange(len(label_ids)), *halves]
    drawn = np.repeat(np.arange(len(parts)), list(map(len, parts)))
    columns = np.concatenate(parts)
    entries = (drawn * n_labels + label_ids[columns], columns, np.ones(len(columns)))
    return _specificity_of(pooled, entries, len(parts), n_labels, threshold, corrected=True)


def _half(label_ids: Integers, generator: np.random.Generator) -> Integers:
    """A random half of the posts, with half of every label's; of odd numbers one more or less."""
    order = generator.permutation(len(label_ids))
    order = order[np.argsort(label_ids[order], kind="stable")]
    labels = label_ids[order]
    place = np.arange(len(order)) - np.searchsorted(labels, labels)
    shifted = place + generator.integers(0, 2, size=labels.max() + 1)[labels]
    half: Integers = order[shifted % 2 == 0]
    return half


def shuffled_specificity(
    pooled: Any, label_ids: Integers, n_labels: int, threshold: float, *, shuffles: int, seed: int
) -> SpecificityDraws:
    """Specificity that labels have which are assigned to posts at random, as often as they occur.

    Arguments as of `corrected_specificity`.
    """
    generator = np.random.default_rng([seed, 1])
    n_posts = len(label_ids)
    shuffled = np.empty((shuffles, n_posts), np.int64)
    for draw in range(shuffles):
        shuffled[draw] = generator.permutation(label_ids)
    rows = (np.arange(shuffles)[:, None] * n_labels + shuffled).ravel()
    entries = (rows, np.tile(np.arange(n_posts), shuffles), np.ones(rows.size))
    return _specificity_of(pooled, entries, shuffles, n_labels, threshold)


def _specificity_of(
    pooled: Any,
    entries: tuple[Integers, Integers, NDArray[Any]],
    n_draws: int,
    n_labels: int,
    threshold: float,
    *,
    corrected: bool = False,
) -> SpecificityDraws:
    """Specificity under several weightings of posts, some features at a time.

    Args:
        pooled: [post, feature], sparse.
        entries: draw x label, post and weight of each weight that is not 0.
        n_draws: how many weightings.
        n_labels: labels of each.
        threshold: what d must exceed.
        corrected: whether what noise in d adds is taken off, as the page above says.
    """
    rows, columns, data = entries
    n_posts, n_features = pooled.shape
    weights = sparse.csr_array(
        (data.astype(np.float64), (rows, columns)), shape=(n_draws * n_labels, n_posts)
    )
    posts = np.asarray(weights.sum(axis=1)).reshape(n_draws, n_labels)
    by_feature = pooled.tocsc()
    counts = np.zeros((3, n_draws))
    step = max(1, _VALUES_AT_ONCE // max(n_draws * n_labels, n_posts))
    for first in range(0, n_features, step):
        dense = by_feature[:, first : first + step].toarray().astype(np.float64)
        shape = (n_draws, n_labels, dense.shape[1])
        sums, squares = ((weights @ part).reshape(shape) for part in (dense, dense**2))
        d = cohens_d(posts, sums, squares)
        counted = _counts(d > threshold)
        if corrected:
            counted = 2 * counted - _counts(_chance_of_exceeding(d, posts, threshold))
        counts += counted
    specific, distinguishing, total = counts
    undefined = np.full(n_draws, np.nan)
    share = np.divide(specific, distinguishing, out=undefined, where=distinguishing > 0)
    return SpecificityDraws(share, total / n_features)


def _chance_of_exceeding(d: NDArray[np.float32], posts: Floats, threshold: float) -> Floats:
    """Chance that d [draw, label, feature] exceeds a threshold with its own noise added again."""
    n = np.maximum(posts, 1)[..., None]
    all_posts = posts.sum(axis=-1)[:, None, None]
    noise = np.sqrt(
        1 / n + 1 / np.maximum(all_posts - n, 1) + d.astype(np.float64) ** 2 / (2 * all_posts)
    )
    # A feature that never varies has no d, and no noise either.
    chance: Floats = np.where(d == 0, 0.0, ndtr((d - threshold) / noise))
    return chance


def _counts(exceeds: NDArray[Any]) -> Floats:
    """Expected features of variety 1, of 1 or more, and varieties in all: [3, draw].

    `exceeds` [draw, label, feature] are chances, or certainties; labels count as independent.
    """
    chance = np.minimum(exceeds.astype(np.float64), 1 - 1e-12)
    none = np.prod(1 - chance, axis=1)
    one = none * (chance / (1 - chance)).sum(axis=1)
    return np.stack([one.sum(axis=1), (1 - none).sum(axis=1), chance.sum(axis=(1, 2))])


def top_features(d: NDArray[np.float32], top: int) -> list[Features]:
    """Return each label's features of greatest d, at most `top` and only those with d > 0.

    `d` is [label, feature]. Greatest first; of equal ones the feature of the lower number.
    """
    orders = np.argsort(-d, axis=1, kind="stable")[:, :top]
    return [order[of_label[order] > 0] for order, of_label in zip(orders, d, strict=True)]


def top_features_by_label(
    table: pl.DataFrame,
    labels: Sequence[str],
    *,
    pooling: str,
    top: int,
    n_latents: int,
    path: Path,
) -> dict[str, Features]:
    """Return each label's features of greatest d, at most `top` and only those with d > 0.

    Args:
        table: `labels.parquet`, read from `path`.
        labels: the labels that are wanted.
        pooling: `mean`, `max` or `last`: the d that counts.
        top: how many.
        n_latents: of the autoencoder.
        path: named in messages.

    Returns:
        By label, each as from `top_features`.

    Raises:
        StudyError: the table is not of these labels and this autoencoder.
    """
    ordered = table.sort("label", "feature")
    known = set(ordered["label"].unique())
    if known != set(labels) or ordered["feature"].to_list() != list(range(n_latents)) * len(labels):
        raise StudyError(
            f"{path}: describes {table.height} pairs of features and labels, but there are "
            f"{n_latents} features and {len(labels)} labels; delete the file and rerun"
        )
    d = ordered[f"d_{pooling}"].to_numpy().reshape(len(labels), n_latents)
    found = top_features(d, top)
    by_name = dict(zip(sorted(labels), found, strict=True))
    return {label: by_name[label] for label in labels}


def firing_frequencies(table: pl.DataFrame, *, n_latents: int, path: Path) -> Frequencies:
    """Return the share of tokens that each feature fires on, `[feature]`.

    `table` is `features.parquet`, read from `path`. StudyError where it is of another autoencoder.
    """
    ordered = table.sort("feature")
    if ordered["feature"].to_list() != list(range(n_latents)):
        raise StudyError(
            f"{path}: describes {table.height} features, but its autoencoder has {n_latents}; "
            "delete the file and rerun"
        )
    return ordered["firing_frequency"].to_numpy().astype(np.float64)
