"""The order of activations: the same from a cache and from windows that a model gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glossogenesis.models.activation_order import (
    batches_of,
    cached_batches,
    epochs_of,
    layer_batches_of,
    shuffled_rows,
    window_order,
)
from glossogenesis.storage.activations.cache import ActivationCache
from support.tiny_cache import SHARDS, write_tiny_caches

ROWS = sum(SHARDS["train"])


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    return write_tiny_caches(tmp_path, 3)[0]


def stored(cache: ActivationCache) -> list[Tensor]:
    return [rows.activations for rows in cache.shards("train")]


def test_window_orders_are_seeded_permutations() -> None:
    orders = [window_order(50, seed=seed, number=n) for seed in (0, 1) for n in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(window_order(50, seed=0, number=1), orders[1])


def test_first_epoch_is_stored_order_and_later_ones_stay_inside_the_window() -> None:
    rows = torch.arange(40)
    assert torch.equal(shuffled_rows(rows, 0, 0, 0), rows)
    later = [shuffled_rows(rows, 0, epoch, shard) for epoch in (1, 2) for shard in (0, 1)]
    assert len({tuple(each.tolist()) for each in [rows, *later]}) == 5
    assert all(torch.equal(each.sort().values, rows) for each in later)


def test_order_never_changes_between_versions() -> None:
    # Caches of one version must train as those of another: these numbers are part of the format.
    assert window_order(8, seed=0, number=0).tolist() == [6, 5, 7, 3, 0, 2, 4, 1]
    assert shuffled_rows(torch.arange(8), 0, 1, 0).tolist() == [1, 3, 7, 5, 4, 2, 6, 0]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8, 19, 20])
def test_batches_run_across_windows_and_the_last_partial_one_is_left_out(batch_size: int) -> None:
    windows = torch.arange(19).split([7, 0, 7, 5])
    batches = list(batches_of(windows, batch_size))
    expected = torch.arange(19 - 19 % batch_size).view(-1, batch_size)
    assert len(batches) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(batches, expected, strict=True))


def test_layers_go_through_together() -> None:
    windows = [{1: torch.arange(5), 4: 10 * torch.arange(5)}] * 2
    batches = list(layer_batches_of(windows, 4))
    assert [batch[1].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 0, 1, 2]]
    assert all(torch.equal(batch[4], 10 * batch[1]) for batch in batches)


@pytest.mark.parametrize("epochs", [1, 3])
def test_cached_batches_are_the_epochs_of_the_stored_windows(
    cache: ActivationCache, epochs: int
) -> None:
    windows = [{3: rows} for rows in stored(cache)]
    streamed = epochs_of(lambda first: windows[first:], epochs=epochs, seed=5)
    expected = [batch[3] for batch in layer_batches_of(streamed, 4)]
    batches = list(cached_batches(cache, "train", 4, epochs=epochs, seed=5))
    assert len(batches) == epochs * ROWS // 4
    for batch, wanted in zip(batches, expected, strict=True):
        assert batch.dtype == torch.bfloat16
        assert torch.equal(batch, wanted)


@pytest.mark.parametrize("first_batch", [0, 1, 2, 4, 5, 9, 13, 14])
def test_starting_later_gives_the_rest(cache: ActivationCache, first_batch: int) -> None:
    everything = list(cached_batches(cache, "train", 4, epochs=3, seed=1))
    rest = list(cached_batches(cache, "train", 4, epochs=3, seed=1, first_batch=first_batch))
    assert len(rest) == len(everything) - first_batch
    assert all(torch.equal(a, b) for a, b in zip(rest, everything[first_batch:], strict=True))


def test_starting_later_leaves_shards_unread(cache: ActivationCache) -> None:
    (cache.manifest.parent / "train_00000.safetensors").unlink()
    assert len(list(cached_batches(cache, "train", 7, first_batch=1))) == 1
