"""Assignment without the matrix of all cosines, against scipy's with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from glossogenesis.sae import similarity
from glossogenesis.sae.similarity import TOLERANCE, assign, unit_rows

Pair = tuple[Tensor, Tensor]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linked(n: int) -> Pair:
    """Half of the latents are found again, with noise and in another order; half are new."""
    first, new = drawn(n, 32), drawn(n, 32, seed=1)
    again = first[: n // 2] + 0.2 * new[: n // 2]
    return first, torch.cat([again, new[n // 2 :]]).flip(0)


def unrelated(n: int) -> Pair:
    return drawn(n, 32), drawn(n, 32, seed=1)


def fewer_rows(n: int) -> Pair:
    return drawn(n // 3, 32), drawn(n, 32, seed=1)


def clusters(n: int) -> Pair:
    """Rows compete for the same columns, of which each tries few at first."""
    centres = drawn(5, 32, seed=2)[torch.arange(n) % 5]
    return centres + 0.05 * drawn(n, 32), centres.flip(0) + 0.05 * drawn(n, 32, seed=1)


def on_a_plane(n: int) -> Pair:
    return drawn(n, 2), drawn(n, 2, seed=1)


@pytest.mark.parametrize("dictionaries", [linked, unrelated, fewer_rows, clusters, on_a_plane])
def test_finds_what_scipy_finds_on_the_whole_matrix(dictionaries: Callable[[int], Pair]) -> None:
    rows, columns = map(unit_rows, dictionaries(300))
    cosines = (rows @ columns.t()).double().numpy()
    _, reference = linear_sum_assignment(cosines, maximize=True)
    found = assign(rows, columns)
    of_rows = np.arange(len(rows))
    assert cosines[of_rows, found.columns].sum() == pytest.approx(
        cosines[of_rows, reference].sum(), rel=1e-8
    )
    if dictionaries is not on_a_plane:
        # On a plane others come within rounding of the best; in more dimensions it is unique.
        assert found.columns.tolist() == reference.tolist()
    assert len(set(found.columns.tolist())) == len(rows)
    assert found.cosines == pytest.approx(cosines[of_rows, found.columns], abs=TOLERANCE)
    assert found.greatest_of_rows == pytest.approx(cosines.max(axis=1), abs=TOLERANCE)
    assert found.greatest_of_columns == pytest.approx(cosines.max(axis=0), abs=TOLERANCE)


def test_equal_rows_get_different_columns() -> None:
    rows, columns = unit_rows(drawn(1, 8).expand(100, 8)), unit_rows(drawn(100, 8, seed=1))
    found = assign(rows, columns)
    assert sorted(found.columns.tolist()) == list(range(100))


def test_how_many_are_tried_at_first_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = map(unit_rows, linked(200))
    usual = assign(rows, columns)
    for nearest in (1, 200):
        monkeypatch.setattr(similarity, "NEAREST", nearest)
        assert assign(rows, columns).columns.tolist() == usual.columns.tolist()
