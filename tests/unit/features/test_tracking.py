"""Features followed from one checkpoint to the next: planted permutations, births and deaths."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.features.tracking import (
    MATCHES_SCHEMA,
    Dictionary,
    track_features,
)

FILE = Path("statistics.parquet")


def unit_rows(n: int, d: int, seed: int = 0) -> Tensor:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def statistics(languages: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "feature": pl.Series(range(len(languages)), dtype=pl.Int32),
            "firings": [0 if language == "dead" else 9 for language in languages],
            "language": languages,
        }
    )


def dictionary(decoder: Tensor, languages: list[str]) -> Dictionary:
    return Dictionary.of(decoder, statistics(languages), FILE)


def matches_of(later: Dictionary, earlier: Dictionary, minimum_cosine: float) -> pl.DataFrame:
    return track_features(later, earlier, minimum_cosine).matches


def test_a_planted_permutation_is_found_with_its_labels() -> None:
    earlier = unit_rows(50, 32)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    later = earlier[order] + 0.02 * unit_rows(50, 32, seed=2)
    labels = ["en", "ja"] * 25
    matches = matches_of(
        dictionary(later, ["mixed"] * 50), dictionary(earlier, labels), minimum_cosine=0.7
    )
    assert matches.schema == MATCHES_SCHEMA
    assert matches["feature"].to_list() == list(range(50))
    assert matches["earlier_feature"].to_list() == order.tolist()
    assert matches["earlier_language"].to_list() == [labels[place] for place in order.tolist()]
    assert set(matches["event"]) == {"kept"}
    assert matches["label_changed"].all()
    assert float(matches["cosine"].min()) > 0.99


def test_what_has_no_partner_is_born_or_dies_and_dead_latents_are_neither() -> None:
    axes = torch.eye(4)
    matches = matches_of(
        dictionary(axes, ["en", "mixed", "dead", "ja"]),
        dictionary(axes, ["en", "ja", "ja", "dead"]),
        minimum_cosine=0.5,
    )
    rows = matches.select(
        "feature", "earlier_feature", "event", "language", "earlier_language", "label_changed"
    )
    assert rows.rows() == [
        (0, 0, "kept", "en", "en", False),
        (1, 1, "kept", "mixed", "ja", True),
        (3, None, "birth", "ja", None, None),
        (None, 2, "death", None, "ja", None),
    ]


def test_pairs_below_the_minimum_are_a_death_and_a_birth() -> None:
    earlier = torch.tensor([[1.0, 0.0]])
    later = torch.tensor([[0.6, 0.8]])
    sides = dictionary(later, ["en"]), dictionary(earlier, ["ja"])
    assert matches_of(*sides, 0.59)["event"].to_list() == ["kept"]
    assert matches_of(*sides, 0.61)["event"].to_list() == ["birth", "death"]


def test_opposite_directions_are_never_the_same_feature() -> None:
    sides = dictionary(torch.eye(1), ["en"]), dictionary(-torch.eye(1), ["en"])
    assert matches_of(*sides, 0.0)["event"].to_list() == ["birth", "death"]


def test_the_facts_say_how_alike_the_alive_latents_are() -> None:
    axes = torch.eye(4)
    tracked = track_features(
        dictionary(axes[:3], ["en", "en", "dead"]), dictionary(axes[1:4], ["en"] * 3), 0.5
    )
    assert tracked.facts == {
        "alive": 2,
        "alive_earlier": 3,
        "mmcs_to_earlier": pytest.approx(1 / 2),
        "mmcs_to_later": pytest.approx(1 / 3),
        "matched_cosine": pytest.approx(1 / 2),
    }


def test_a_side_without_alive_features() -> None:
    living, dead = dictionary(torch.eye(2), ["en", "ja"]), dictionary(torch.eye(2), ["dead"] * 2)
    assert matches_of(living, dead, 0.5)["event"].to_list() == ["birth"] * 2
    assert matches_of(dead, living, 0.5)["event"].to_list() == ["death"] * 2
    nothing = track_features(dead, dead, 0.5)
    assert nothing.matches.height == 0
    assert nothing.facts["mmcs_to_earlier"] is None


def test_autoencoders_of_other_widths_are_refused() -> None:
    with pytest.raises(StudyError, match="width 3 cannot be matched with one of width 2"):
        matches_of(dictionary(torch.eye(3), ["en"] * 3), dictionary(torch.eye(2), ["en"] * 2), 0.5)


def test_statistics_of_another_autoencoder_are_refused() -> None:
    with pytest.raises(StudyError, match=r"statistics.parquet: describes 2 features, but .* 3"):
        dictionary(torch.eye(3), ["en"] * 2)
