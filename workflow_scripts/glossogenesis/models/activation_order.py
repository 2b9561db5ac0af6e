"""The order in which activations reach training: from a cache and from a running model the same.

The module lies among the models, not in `storage`, because order changes results: digests of the
code leave `storage` out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.activations.cache import ActivationCache, ActivationRows

SPLIT = "held_out"
"""Features are described on text that autoencoders were not trained on."""

ROWS_AT_ONCE = 4096
"""Tokens of a block, but for the rest of the last sequence in it."""


def window_order(n_rows: int, *, seed: int, number: int) -> Tensor:
    """Order `[row]`, int64, in which window `number` stores its tokens.

    Row `i` of the stored window is token `order[i]` of the window in the order of the corpus.
    """
    return _permutation(n_rows, f"window:{seed}:{number}")


def shuffled_rows(rows: Tensor, seed: int, epoch: int, shard_number: int) -> Tensor:
    """Rows `[row, ...]` of a stored window in the order of an epoch.

    Epoch 0 takes them as they are stored; later epochs permute them inside the window.
    """
    if epoch == 0:
        return rows
    return rows[_permutation(len(rows), f"epoch:{seed}:{epoch}:{shard_number}").to(rows.device)]


def batches_of(windows: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Batches `[batch_size, ...]` of the rows of consecutive windows.

    Batches run across the borders of windows; rows that do not fill a last batch are left out.
    """
    for batch in layer_batches_of(({0: window} for window in windows), batch_size):
        yield batch[0]


def layer_batches_of(
    windows: Iterable[Mapping[int, Tensor]], batch_size: int
) -> Iterator[dict[int, Tensor]]:
    """Batches as `batches_of` gives them, of several layers at a time.

    Every window maps the same layers to equally many rows.
    """
    parts: list[dict[int, Tensor]] = []
    missing = batch_size
    for window in windows:
        n_rows = len(next(iter(window.values())))
        first = 0
        while n_rows - first >= missing:
            parts.append(_slice(window, first, first + missing))
            first += missing
            yield _joined(parts)
            parts, missing = [], batch_size
        if first < n_rows:
            # A copy, or the rest of a window would keep all of it in memory.
            rest = _slice(window, first, n_rows)
            parts.append({layer: rows.clone() for layer, rows in rest.items()})
            missing -= n_rows - first


def epochs_of(
    open_windows: Callable[[int], Iterable[Mapping[int, Tensor]]],
    *,
    epochs: int,
    seed: int,
    first_epoch: int = 0,
    first_window: int = 0,
) -> Iterator[dict[int, Tensor]]:
    """Windows of several layers over all epochs, each in the order of its epoch.

    Args:
        open_windows: gives the stored windows of one epoch, from the window of the given number on.
        epochs: how many times all windows are passed.
        seed: seed of the orders of later epochs.
        first_epoch: the epoch to start at.
        first_window: the window of that epoch to start at.
    """
    for epoch in range(first_epoch, epochs):
        first = first_window if epoch == first_epoch else 0
        for number, window in enumerate(open_windows(first), first):
            yield {
                layer: shuffled_rows(rows, seed, epoch, number) for layer, rows in window.items()
            }


def cached_batches(
    cache: ActivationCache,
    split: str,
    batch_size: int,
    *,
    epochs: int = 1,
    seed: int = 0,
    first_batch: int = 0,
    prefetch: int = 2,
) -> Iterator[Tensor]:
    """Batches `[batch_size, d_model]` of a cache's activations, in their stored dtype.

    Args:
        cache: the activations of one layer.
        split: `train` or `held_out`.
        batch_size: rows of a batch; rows that do not fill the last batch of all are left out.
        epochs: how many times the split is passed.
        seed: seed of the orders of later epochs.
        first_batch: batches left out at the start; shards that lie before them are not read.
        prefetch: shards that are read ahead.

    Raises:
        StudyError: as `ActivationCache.shards`.
    """
    rows = cache.rows_of_shards(split)
    first_epoch, row = divmod(first_batch * batch_size, max(1, sum(rows)))
    ends = list(accumulate(rows))
    first_shard = sum(end <= row for end in ends)
    inside = row - (ends[first_shard - 1] if first_shard else 0)
    checked = False

    def open_windows(first: int) -> Iterator[dict[int, Tensor]]:
        nonlocal checked
        shards = cache.shards(split, first=first, verify=not checked, prefetch=prefetch)
        checked = first == 0
        return ({cache.layer: shard.activations} for shard in shards)

    windows = epochs_of(
        open_windows, epochs=epochs, seed=seed, first_epoch=first_epoch, first_window=first_shard
    )
    activations = (window[cache.layer] for window in windows)
    return batches_of(_from_row(activations, inside), batch_size)


def _from_row(windows: Iterable[Tensor], first: int) -> Iterator[Tensor]:
    for window in windows:
        yield window[first:]
        first = 0


def _slice(window: Mapping[int, Tensor], first: int, last: int) -> dict[int, Tensor]:
    return {layer: rows[first:last] for layer, rows in window.items()}


def _joined(parts: list[dict[int, Tensor]]) -> dict[int, Tensor]:
    if len(parts) == 1:
        return parts[0]
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}


def _permutation(n_rows: int, name: str) -> Tensor:
    digest = hashlib.sha256(name.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randperm(n_rows, generator=generator)


def check_same_corpus(cache: ActivationCache, corpus: TokenisedCorpus) -> None:
    """Refuse a corpus of another name, tokenizer or set of languages than the activations'."""
    facts = {
        "corpus": (cache.corpus, corpus.corpus),
        "tokenizer": (cache.tokenizer_digest, corpus.tokenizer_digest),
        "languages": (cache.languages, corpus.languages),
    }
    for name, (of_cache, of_corpus) in facts.items():
        if of_cache != of_corpus:
            raise StudyError(
                f"{cache.manifest}: its {name} is {of_cache!r}, but {corpus.folder} has "
                f"{of_corpus!r}; give the corpus that the activations were taken from"
            )


def whole_sequences(
    cache: ActivationCache, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[ActivationRows]:
    """Yield the held-out rows in order, cut between sequences after about `rows_at_once` of them.

    StudyError where a sequence comes after a later one, or lies in two shards.
    """
    last = -1
    for shard in cache.shards(SPLIT):
        contexts = shard.contexts.numpy()
        if len(contexts) and (contexts[0] <= last or (np.diff(contexts) < 0).any()):
            raise StudyError(
                f"{cache.manifest}: its held-out sequences are out of order; delete it and rerun"
            )
        ends = np.append(np.flatnonzero(np.diff(contexts)) + 1, len(contexts))
        start = 0
        while start < len(contexts):
            place = int(np.searchsorted(ends, start + rows_at_once))
            end = int(ends[min(place, len(ends) - 1)])
            yield shard[start:end]
            start = end
        last = int(contexts[-1]) if len(contexts) else last


def places_in_groups(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each entry in its group, from 0, where equal groups stand together; int64 [entry].

    Groups are numbered from 0 up.
    """
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    lengths = np.diff(first, append=len(groups))
    places: NDArray[np.int64] = np.arange(len(groups)) - np.repeat(first, lengths)
    return places
