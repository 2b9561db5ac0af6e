"""Similarity of dictionaries: known answers."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.sae import similarity
from glossogenesis.sae.similarity import match, self_similarity
from glossogenesis.sae.tables import SEEDS_SCHEMA, Dictionary, compare_dictionaries


def random_directions(latents: int, d_model: int, *, seed: int = 0) -> Tensor:
    return torch.randn(latents, d_model, generator=torch.Generator().manual_seed(seed))


def shuffled(directions: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(directions), generator=torch.Generator().manual_seed(1))
    return directions[order], order


def test_a_permuted_dictionary_is_the_same() -> None:
    directions = random_directions(60, 16)
    # Norms do not count.
    other, order = shuffled(directions * torch.rand(60, 1).add(0.5))
    found = match(other, directions)
    assert (found.mmcs, found.mean) == pytest.approx((1, 1))
    assert found.first.tolist() == list(range(60))
    assert found.second.tolist() == order.tolist()


def test_random_dictionaries_are_as_alike_as_chance_has_it() -> None:
    """In two dimensions cos(angle) of uniform angles: the greatest of n has a known mean."""
    first, second = random_directions(4000, 2), random_directions(5, 2, seed=1)
    # The nearest of 5 angles is at most pi / 5 away on average over many draws of the five; here
    # the second dictionary is fixed, so the exact mean over the first is an integral.
    angles = torch.atan2(second[:, 1], second[:, 0])
    grid = torch.linspace(-torch.pi, torch.pi, 100_001)[:-1]
    expected = torch.cos(grid[:, None] - angles).amax(dim=1).mean()
    assert match(first, second).mmcs == pytest.approx(float(expected), abs=0.02)
    # In many dimensions cosines are nearly normal with variance 1 / d: E max of 256 is 2.78 sd.
    wide = match(random_directions(256, 512), random_directions(256, 512, seed=1))
    assert wide.mmcs == pytest.approx(2.78 / 512**0.5, rel=0.05)


def test_greatest_cosines_have_a_direction() -> None:
    small = torch.tensor([[1.0, 0.0]])
    large = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    found = match(small, large)
    assert (found.mmcs, found.mmcs_back) == (1, 0.5)


def test_matching_is_one_to_one_and_best_in_total() -> None:
    # Both rows of `first` are nearest to the same row of `second`.
    first = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    second = torch.tensor([[1.0, 0.1], [0.6, -0.8], [-1.0, 0.0]])
    found = match(first, second)
    assert found.second.tolist() == [1, 0]
    cosines = torch.nn.functional.cosine_similarity(first, second[[1, 0]]).tolist()
    assert found.cosines.tolist() == pytest.approx(cosines)
    swapped = match(second, first)
    assert swapped.first.tolist() == [0, 1]
    assert swapped.second.tolist() == [1, 0]
    assert swapped.mean == pytest.approx(found.mean)


def test_self_similarity_leaves_a_latent_itself_out() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])
    assert self_similarity(rows).tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="at least two"):
        self_similarity(rows[:1])


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = random_directions(50, 8), random_directions(40, 8, seed=1)
    alike, whole = self_similarity(first), match(first, second)
    for module in (similarity, similarity):
        monkeypatch.setattr(module, "CHUNK_COSINES", 120)
    torch.testing.assert_close(self_similarity(first), alike)
    chunked = match(first, second)
    assert chunked.second.tolist() == whole.second.tolist()
    assert chunked.greatest_of_first == pytest.approx(whole.greatest_of_first)
    assert chunked.greatest_of_second == pytest.approx(whole.greatest_of_second)


def test_rows_of_zeros_are_like_nothing() -> None:
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert match(rows, rows).greatest_of_first.tolist() == [0, 1]


def test_table_of_seeds() -> None:
    directions = random_directions(64, 24)
    noise = 0.1 * random_directions(64, 24, seed=1)
    table = compare_dictionaries(
        [
            Dictionary("topk", 0, directions),
            Dictionary("topk.seed1", 1, shuffled(directions + noise)[0]),
            Dictionary("topk.seed2", 2, random_directions(32, 24, seed=2)),
        ]
    )
    assert table.schema == SEEDS_SCHEMA
    assert table.select("seed_a", "seed_b").rows() == [(0, 1), (0, 2), (1, 2)]
    alike = table.row(0, named=True)
    for name in ("mmcs_ab", "mmcs_ba", "matched_cosine"):
        assert alike[name] > 0.98
        assert alike[f"{name}_chance"] < 0.6
    apart = table.row(1, named=True)
    assert apart["latents_b"] == 32
    assert apart["matched_cosine"] == pytest.approx(apart["matched_cosine_chance"], abs=0.1)
    assert table.null_count().sum_horizontal().item() == 0
    assert isinstance(table, pl.DataFrame)


def test_what_cannot_be_compared() -> None:
    one = Dictionary("a", 0, random_directions(4, 3))
    with pytest.raises(StudyError, match="nothing to be compared with"):
        compare_dictionaries([one])
    with pytest.raises(StudyError, match="widths 3, 5"):
        compare_dictionaries([one, Dictionary("b", 1, random_directions(4, 5))])
