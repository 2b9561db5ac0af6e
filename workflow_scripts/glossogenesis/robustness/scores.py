"""How well posts are classified: accuracy and macro F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PREDICTIONS_SCHEMA = pl.Schema(
    {"post": pl.Int32, "number": pl.Int32, "label": pl.String, "predicted": pl.String}
)
"""Of the baseline."""
LOGITS_SCHEMA = pl.Schema(
    {**PREDICTIONS_SCHEMA, **pl.Schema({"logit": pl.Float32, "margin": pl.Float32})}
)
"""Of a classifier."""

_ROUNDING = 1e-9
"""A mean below this is what rounding leaves of a label that is nobody's."""


@dataclass(frozen=True)
class Scores:
    """Scores over posts, each between 0 and 1."""

    accuracy: float
    macro_f1: float
    """Mean of the labels' F1, over labels that occur among the posts or the predictions."""


def scores_of(labels: ArrayLike, predicted: ArrayLike) -> Scores:
    """Score predictions `[post]` against labels `[post]`, both names or both ids.

    The F1 of a label that is never predicted is 0.
    """
    names, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    true, answered = np.split(codes, 2)
    right = np.bincount(true[true == answered], minlength=names.size)
    f1 = 2 * right / np.bincount(codes)
    return Scores(accuracy=float((true == answered).mean()), macro_f1=float(f1.mean()))


def f1_counts(labels: ArrayLike, predicted: ArrayLike, n_labels: int) -> Floats:
    """What the F1 of every label is made of, post by post: `[post, 2 x label]`, of ids `[post]`.

    First whether the post was given this label, its own; then how often the label is the post's own
    or was given to it.
    """
    true, predicted = (np.eye(n_labels)[np.asarray(ids)] for ids in (labels, predicted))
    return np.concatenate([true * predicted, true + predicted], axis=1)


def macro_f1_of(counts: Floats) -> Floats:
    """Mean over labels of their F1, of sums or means of `f1_counts` `[..., 2 x label]`: `[...]`.

    As scikit-learn has it, over the labels that a post has or was given.
    """
    hits, sizes = np.split(counts, 2, axis=-1)
    there = sizes > _ROUNDING
    f1 = np.divide(2 * hits, sizes, out=np.zeros_like(sizes), where=there)
    mean: Floats = f1.sum(axis=-1) / there.sum(axis=-1)
    return mean


def chance_of(labels: Sequence[str]) -> float:
    """Accuracy of always predicting the most frequent of `labels` `[post]`."""
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return float(counts.max() / counts.sum())
