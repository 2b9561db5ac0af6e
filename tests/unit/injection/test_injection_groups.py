"""Which features of a table of statistics are injected."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.injection.method import injection_groups

STATISTICS = pl.DataFrame(
    [
        (0, 5, "en", 0.9),
        (1, 5, "bilingual", 0.5),
        (2, 5, "bilingual", 0.49),
        (3, 5, "mixed", 0.9),
        (4, 0, "dead", None),
        (5, 5, "ja", 0.0),
        (6, 5, "unlabelled", 0.9),
        (7, 5, "en", None),
        (8, 5, "symbol", 1.0),
    ],
    schema={
        "feature": pl.Int32,
        "firings": pl.Int64,
        "language": pl.String,
        "monosemanticity": pl.Float64,
    },
    orient="row",
)


def groups_of(n_latents: int = 9):
    return injection_groups(
        STATISTICS.reverse(),
        n_latents,
        languages=["en", "ja", "fi"],
        minimum_monosemanticity=0.5,
        path=Path("statistics.parquet"),
    )


def test_languages_by_label_and_bilingual_by_label_and_meaning() -> None:
    groups = groups_of()
    by_name = {name: latents.tolist() for name, latents in groups.by_name.items()}
    assert by_name == {"en": [0, 7], "ja": [5], "fi": [], "bilingual": [1], "symbol": [8]}
    assert groups.alive.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_statistics_of_another_autoencoder_are_refused() -> None:
    with pytest.raises(StudyError, match=r"statistics.parquet: describes 9 features, .* has 10"):
        groups_of(10)
