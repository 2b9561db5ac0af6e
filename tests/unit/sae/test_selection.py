"""The largest latents of a token and of a batch, against sorting all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glossogenesis.sae.autoencoder import (
    LargestOfBatch,
    LargestOfRows,
    SelectedLatents,
    first_bound,
)

ROWS, LATENTS = 40, 60


def random_latents(seed: int = 0) -> Tensor:
    return torch.randn(ROWS, LATENTS, generator=torch.Generator().manual_seed(seed))


def dense(selected: SelectedLatents) -> Tensor:
    found = torch.zeros(len(selected.offsets) - 1, LATENTS)
    found[selected.rows, selected.latents] = selected.values
    return found


def test_of_rows_keeps_the_k_largest_positive_of_each() -> None:
    before = random_latents() - 1.5
    largest = LargestOfRows(4)
    for chunk in before.split(7):
        largest.add(chunk)
    values, latents = before.relu().sort(dim=1, descending=True)
    expected = torch.zeros_like(before).scatter_(1, latents[:, :4], values[:, :4])
    selected = largest.selected(torch.float32)
    assert torch.equal(dense(selected), expected)
    assert selected.offsets.tolist() == list(range(0, 4 * ROWS + 1, 4))


@pytest.mark.parametrize("bound", [0.0, 0.3, 1.2])
@pytest.mark.parametrize("chunk", [3, 40])
def test_of_batch_does_not_depend_on_bound_and_chunks(bound: float, chunk: int) -> None:
    before = random_latents()
    wanted = 5 * ROWS
    threshold = before.flatten().sort(descending=True).values[wanted - 1]
    largest = LargestOfBatch(wanted, bound)
    for part in before.split(chunk):
        largest.add(part)
    assert not largest.too_few
    selected = largest.selected(torch.float32)
    assert torch.equal(dense(selected), before * (before >= threshold))
    assert (selected.rows.diff() >= 0).all()
    counts = selected.offsets.diff()
    assert counts.tolist() == torch.bincount(selected.rows, minlength=ROWS).tolist()


def test_of_batch_tells_when_its_bound_was_too_high() -> None:
    before = random_latents()
    largest = LargestOfBatch(5 * ROWS, 2.5)
    largest.add(before)
    assert largest.too_few
    all_positive = LargestOfBatch(before.numel(), 0.0)
    all_positive.add(before)
    assert not all_positive.too_few
    assert torch.equal(dense(all_positive.selected(torch.float32)), before.relu())


def test_of_equal_latents_the_first_are_kept() -> None:
    before = torch.ones(4, LATENTS)
    largest = LargestOfBatch(LATENTS + 2, 0.5)
    largest.add(before)
    selected = largest.selected(torch.float32)
    assert selected.rows.tolist() == [0] * LATENTS + [1, 1]
    assert selected.latents.tolist() == [*range(LATENTS), 0, 1]


def test_the_first_bound_leaves_enough() -> None:
    before = random_latents()
    assert int((before > first_bound(before, 5)).sum()) >= 5 * ROWS
