"""Monosemanticity: the slide's example, and entropies by plain counting."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from glossogenesis.exceptions import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.features.firing import TOKEN_IDS
from glossogenesis.features.measures import (
    TokenTypes,
    meaning_entropies,
    monosemanticity,
    unit_vectors,
)

DOG, CAT, APPLES = range(3)
ANIMALS_AND_FRUIT = torch.tensor([[1.0, 0.1], [2.0, 0.0], [0.0, 3.0]])


def examples_of(tokens: list[list[int]]) -> Examples:
    """The activating tokens of each feature's examples."""
    table = np.zeros((len(tokens), max(map(len, tokens))), TOKEN_IDS)
    for feature, of_feature in enumerate(tokens):
        table["token_id"][feature, : len(of_feature)] = of_feature
    counts = np.array([len(of_feature) for of_feature in tokens])
    return Examples(table, np.ones(table.shape, np.float32), counts, counts)


def measured(tokens: list[list[int]], vectors: torch.Tensor, cosine: float = 0.5) -> list[float]:
    types = TokenTypes.of(examples_of(tokens))
    meaning = meaning_entropies(types, unit_vectors(vectors), "average", [cosine])[cosine]
    return monosemanticity(types.entropies(), meaning).tolist()


def test_the_example_of_the_slides() -> None:
    (value,) = measured([[DOG, CAT, APPLES]], ANIMALS_AND_FRUIT)
    assert value == pytest.approx(0.4206, abs=5e-5)


def test_ends_of_the_scale() -> None:
    one_type, one_meaning, unlike, none = measured(
        [[APPLES, APPLES], [DOG, CAT, CAT], [CAT, APPLES], []], ANIMALS_AND_FRUIT
    )
    assert (one_type, one_meaning, unlike) == (1.0, 1.0, 0.0)
    assert math.isnan(none)


def test_entropies_by_plain_counting() -> None:
    generator = np.random.default_rng(0)
    tokens = [generator.integers(0, 30, size).tolist() for size in (50, 1, 17, 33)]
    # Tokens mean the same if they have the same remainder: they share a vector.
    vectors = torch.eye(7)[torch.arange(30) % 7] * torch.arange(1.0, 31.0)[:, None]
    types = TokenTypes.of(examples_of(tokens))
    found = meaning_entropies(types, unit_vectors(vectors), "average", [0.5])[0.5]
    for feature, of_feature in enumerate(tokens):
        assert types.entropies()[feature] == pytest.approx(entropy(of_feature))
        assert types.number[feature] == len(set(of_feature))
        assert found[feature] == pytest.approx(entropy([token % 7 for token in of_feature]))


def entropy(tokens: list[int]) -> float:
    shares = [count / len(tokens) for count in Counter(tokens).values()]
    return -sum(share * math.log(share) for share in shares)


def test_linkage_and_cut_are_settings() -> None:
    angles = torch.tensor([0.0, 50.0, 100.0]).deg2rad()
    chain = torch.stack([angles.cos(), angles.sin()], dim=1)
    types = TokenTypes.of(examples_of([[0, 1, 2]]))
    unit = unit_vectors(chain)

    def meanings(linkage: str, cosine: float) -> int:
        found = meaning_entropies(types, unit, linkage, [cosine])[cosine][0]
        return round(math.exp(found) * 10)

    # Neighbours have a cosine of 0.64, the ends one of -0.17.
    assert meanings("single", 0.6) == 10
    assert meanings("complete", 0.6) == pytest.approx(19, abs=1)
    assert meanings("complete", -0.2) == 10
    assert meanings("single", 0.7) == 30
    # Average: (0.64 - 0.17) / 2 = 0.23 between the first two and the third.
    assert meanings("average", 0.2) == 10
    assert meanings("average", 0.3) == pytest.approx(19, abs=1)


def test_a_cosine_equal_to_the_cut_is_one_meaning() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.5, 3**0.5 / 2]])
    assert measured([[0, 1]], vectors, cosine=0.5) == [1.0]


def test_several_cuts_share_a_clustering() -> None:
    types = TokenTypes.of(examples_of([[DOG, CAT, APPLES], [CAT, APPLES]]))
    unit = unit_vectors(ANIMALS_AND_FRUIT)
    together = meaning_entropies(types, unit, "single", [0.5, 0.999])
    for cosine in (0.5, 0.999):
        alone = meaning_entropies(types, unit, "single", [cosine])[cosine]
        assert together[cosine].tolist() == alone.tolist()


def test_bad_embeddings() -> None:
    types = TokenTypes.of(examples_of([[APPLES]]))
    with pytest.raises(StudyError, match="vectors of 2 tokens, but token 2"):
        meaning_entropies(types, unit_vectors(ANIMALS_AND_FRUIT[:2]), "average", [0.5])
    with pytest.raises(StudyError, match="not finite"):
        unit_vectors(torch.tensor([[torch.nan, 1.0]]))
    # A vector of zeros is like no other.
    zeros = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert measured([[0, 2]], zeros) == [0.0]
