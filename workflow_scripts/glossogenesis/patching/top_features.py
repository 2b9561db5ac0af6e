"""The features that tell a label from all others best, and how often features fire."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.errors import StudyError

Features = NDArray[np.int64]
Frequencies = NDArray[np.float64]


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
