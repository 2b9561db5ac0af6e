"""How well posts are classified: accuracy and macro F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


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


def chance_of(labels: Sequence[str]) -> float:
    """Accuracy of always predicting the most frequent of `labels` `[post]`."""
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return float(counts.max() / counts.sum())
