"""The features that tell a label from all others best, and how often features fire."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.label_effects import (
    firing_frequencies,
    top_features,
    top_features_by_label,
)

PATH = Path("labels.parquet")


def labels_table(d: dict[str, list[float]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"feature": feature, "label": label, "d_mean": value, "d_max": -value}
            for label, of_label in d.items()
            for feature, value in enumerate(of_label)
        ],
        schema_overrides={"feature": pl.Int32, "d_mean": pl.Float32},
    )


def test_top_features_come_by_d_then_by_number_and_only_above_zero() -> None:
    d = np.array([[0.5, 2, 0, 2, -1], [0, -1, 0, 0, 0]], np.float32)
    assert [each.tolist() for each in top_features(d, 3)] == [[1, 3, 0], []]
    assert top_features(d, 1)[0].tolist() == [1]


def test_top_features_are_those_of_greatest_d_above_zero() -> None:
    table = labels_table({"a": [0.5, 2.0, 0.5, 0.0], "b": [-1.0, 0.0, -2.0, -0.1]})
    given = {"labels": ("a", "b"), "n_latents": 4, "path": PATH}
    found = top_features_by_label(table, pooling="mean", top=2, **given)
    assert {label: features.tolist() for label, features in found.items()} == {"a": [1, 0], "b": []}
    found = top_features_by_label(table.reverse(), pooling="mean", top=20, **given)
    assert found["a"].tolist() == [1, 0, 2]
    found = top_features_by_label(table, pooling="max", top=3, **given)
    assert found["b"].tolist() == [2, 0, 3]


def test_tables_of_another_autoencoder_are_refused() -> None:
    table = labels_table({"a": [0.5, 2.0], "b": [1.0, 0.0]})
    given = {"pooling": "mean", "top": 2, "path": PATH}
    with pytest.raises(StudyError, match=r"labels.parquet: describes 4 pairs.*3 features"):
        top_features_by_label(table, ("a", "b"), n_latents=3, **given)
    with pytest.raises(StudyError, match=r"labels.parquet: describes 4 pairs.*1 labels"):
        top_features_by_label(table, ("a",), n_latents=4, **given)
    features = pl.DataFrame({"feature": [1, 0], "firing_frequency": [0.1, 0.0]})
    assert firing_frequencies(features, n_latents=2, path=PATH).tolist() == [0.0, 0.1]
    with pytest.raises(StudyError, match=r"describes 2 features, but its autoencoder has 3"):
        firing_frequencies(features, n_latents=3, path=PATH)
