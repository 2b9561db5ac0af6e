"""Contexts of a corpus in windows of bounded size, and in batches of similar length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from glossogenesis.corpora.tokenised import BLOCK_TENSORS, NO_DOCUMENT, ContextBlock


def context_windows(blocks: Iterable[ContextBlock], tokens: int) -> Iterator[ContextBlock]:
    """Regroup consecutive contexts into windows of at most `tokens` kept tokens each.

    A context is never split, so a window holds somewhat fewer tokens, or one context that alone
    has more.
    """
    held: list[ContextBlock] = []
    count = 0
    for block in blocks:
        start = 0
        for index, kept in enumerate(block.kept.sum(dim=1).tolist()):
            if count + kept > tokens and (held or index > start):
                yield _joined([*held, _cut(block, start, index)])
                held, start, count = [], index, 0
            count += kept
        held.append(_cut(block, start, len(block.kept)))
    if held:
        yield _joined(held)


def last_tokens(block: ContextBlock) -> ContextBlock:
    """The same contexts with the last token of each kept, special or not, and no other."""
    columns = torch.arange(block.kept.shape[1])
    return replace(block, kept=columns == lengths_of(block)[:, None] - 1)


def lengths_of(block: ContextBlock) -> Tensor:
    """Tokens of each context without padding, `[context]`, int64."""
    return (block.documents != NO_DOCUMENT).sum(dim=1)


def batches_of_contexts(lengths: Tensor, batch_size: int) -> Sequence[Tensor]:
    """Indices of contexts in equally large batches of at most `batch_size`, long contexts first."""
    order = torch.sort(lengths, descending=True, stable=True).indices
    return order.tensor_split(math.ceil(len(order) / batch_size))


def _cut(block: ContextBlock, start: int, end: int) -> ContextBlock:
    return ContextBlock(
        block.first + start, **{name: getattr(block, name)[start:end] for name in BLOCK_TENSORS}
    )


def _joined(blocks: Sequence[ContextBlock]) -> ContextBlock:
    return ContextBlock(
        blocks[0].first,
        **{name: torch.cat([getattr(block, name) for block in blocks]) for name in BLOCK_TENSORS},
    )
