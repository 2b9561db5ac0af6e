"""How many features of a spelling are left without another's, and what chance would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from glossogenesis.corpora.posts import Spelling
from glossogenesis.robustness.spellings import (
    SURVIVAL_SCHEMA,
    StrongestFeatures,
    strongest_features,
    survival_rows,
)
from support.planted_features import identity_sae

KINDS = ("kanji", "hiragana", "katakana")


def spellings_of(**numbers: int) -> list[Spelling]:
    """So many spellings of each concept."""
    return [
        Spelling(concept, KINDS[number % 3], f"{concept}{number}", f"{concept}{number}.")
        for concept, count in numbers.items()
        for number in range(count)
    ]


def rows_of(sets: list[list[int]], *, k: int, n_active: int = 20) -> list[dict[str, Any]]:
    features = tuple(np.array(features, dtype=np.int64) for features in sets)
    found = StrongestFeatures(features, n_active, l0=0.0)
    return survival_rows(spellings_of(egg=len(sets)), found, [k])


@pytest.mark.parametrize("shared", range(5))
def test_spellings_that_share_some_features(shared: int) -> None:
    """Of four features each, as many are the same as were planted."""
    states = torch.zeros(2, 10)
    states[0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    states[1, 4 - shared : 8 - shared] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    sae = identity_sae(10, architecture="relu")
    found = strongest_features(sae, states, torch.tensor([0, 1]), 2, k=4)
    back, forth = survival_rows(spellings_of(egg=2), found, [4])
    assert forth["survival"] == back["survival"] == 1 - shared / 4
    assert forth["shared"] == shared
    assert (forth["first"], forth["second"]) == ("egg0", "egg1")
    assert (back["first_kind"], back["second_kind"]) == ("hiragana", "kanji")
    assert forth["n_active"] == 8 - shared
    assert forth["chance"] == pytest.approx(1 - 4 / (8 - shared))
    left = set(found.of_spelling[1]) - set(found.of_spelling[0])
    assert len(left) / 4 == forth["survival"]


def test_nothing_is_left_without_the_same_features() -> None:
    (row, _) = rows_of([[3, 1, 2], [2, 3, 1]], k=3)
    assert row["survival"] == 0


def test_spellings_of_other_concepts_are_the_control() -> None:
    """Every spelling fires 0; egg's two share 1 too, dog's two nothing else."""
    sets = ([0, 1], [0, 1], [0, 2], [0, 3])
    features = tuple(np.array(each, dtype=np.int64) for each in sets)
    rows = survival_rows(spellings_of(egg=2, dog=2), StrongestFeatures(features, 4, l0=2.0), [2])
    found = {(row["first"], row["second"]): (row["survival"], row["unrelated"]) for row in rows}
    assert found["egg0", "egg1"] == (0, 0.5)
    assert found["dog0", "dog1"] == (0.5, 0.5)


def test_the_k_strongest_alone_count() -> None:
    sets = [[1, 2, 3, 4], [3, 4, 1, 2]]
    assert [rows_of(sets, k=k)[0]["survival"] for k in (1, 2, 3, 4)] == [
        1,
        1,
        pytest.approx(1 / 3),
        0,
    ]


def test_where_fewer_fire_shares_are_of_those_that_do() -> None:
    rows = {(row["first"], row["second"]): row for row in rows_of([[1, 2], [2, 3, 4, 1], []], k=4)}
    forth, back = rows["egg0", "egg1"], rows["egg1", "egg0"]
    assert (forth["shared"], forth["first_features"], forth["second_features"]) == (2, 2, 4)
    assert (forth["survival"], back["survival"]) == (0.5, 0)
    assert (forth["chance"], back["chance"]) == (1 - 2 / 20, 1 - 4 / 20)
    assert rows["egg0", "egg2"]["survival"] is None
    assert rows["egg2", "egg0"]["survival"] == 1


def test_without_any_feature_there_is_no_chance_level() -> None:
    assert [row["chance"] for row in rows_of([[], []], k=4, n_active=0)] == [None, None]


@pytest.mark.parametrize(("first", "second"), [(4, 4), (3, 6), (6, 1)])
def test_chance_is_what_random_sets_share(first: int, second: int) -> None:
    n_active = 12
    generator = np.random.default_rng([first, second])
    drawn = [
        rows_of(
            [generator.permutation(n_active)[:size].tolist() for size in (first, second)],
            k=6,
            n_active=n_active,
        )[0]
        for _ in range(4000)
    ]
    simulated = np.array([row["survival"] for row in drawn])
    error = simulated.std() / len(drawn) ** 0.5
    assert drawn[0]["chance"] == pytest.approx(simulated.mean(), abs=4 * error)


def test_pairs_are_those_within_a_concept_in_both_directions() -> None:
    spellings = spellings_of(egg=3, dog=2)
    features = tuple(np.array([number]) for number in range(5))
    rows = survival_rows(spellings, StrongestFeatures(features, 5, l0=1.0), [1, 2])
    pairs = [(row["first"], row["second"]) for row in rows if row["k"] == 1]
    assert pairs == [
        ("egg1", "egg0"), ("egg2", "egg0"), ("egg0", "egg1"),
        ("egg2", "egg1"), ("egg0", "egg2"), ("egg1", "egg2"),
        ("dog1", "dog0"), ("dog0", "dog1"),
    ]  # fmt: skip
    assert len(rows) == 2 * len(pairs)
    table = pl.DataFrame(
        [{"layer": 0, "arm": "sentence"} | row for row in rows], schema=SURVIVAL_SCHEMA
    )
    assert set(table.columns) == set(rows[0]) | {"layer", "arm"}
    assert table.height == len(rows)
