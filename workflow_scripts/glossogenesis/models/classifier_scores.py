"""How well posts are classified: accuracy and macro F1, by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score


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
    return Scores(
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
    )


def chance_of(labels: Sequence[str]) -> float:
    """Accuracy of always predicting the most frequent of `labels` `[post]`."""
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return float(counts.max() / counts.sum())
