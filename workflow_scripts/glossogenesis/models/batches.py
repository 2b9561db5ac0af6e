"""Batches of prompts of different lengths, and of windows of a corpus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from glossogenesis.corpora.tokenised import BLOCK_TENSORS, NO_DOCUMENT, ContextBlock
from glossogenesis.models.anatomy import Anatomy

LOGITS_AT_ONCE = 1 << 25
"""Logits that exist at a time: 128 MB of float32."""


@dataclass(frozen=True)
class PaddedBatch:
    """Prompts of one forward pass."""

    token_ids: Tensor
    """`[prompt, column]`, int64."""
    mask: Tensor
    """`[prompt, column]`, int64: 1 at tokens, 0 at padding."""
    position_ids: Tensor
    """`[prompt, column]`, int64: each token's index in its own prompt; any at padding."""

    def columns(self, positions: Sequence[int]) -> Tensor:
        """Columns `[prompt]`, with padding on the left, of one position of each prompt."""
        padding = self.mask.shape[1] - self.mask.sum(dim=1)
        return padding + torch.tensor(positions, device=padding.device)

    def at_last(self, states: Tensor) -> Tensor:
        """From `[prompt, column, ...]`, with padding on the right, to the last tokens'."""
        rows = torch.arange(len(states), device=states.device)
        return states[rows, self.mask.sum(dim=1) - 1]

    def model_inputs(self, anatomy: Anatomy) -> dict[str, Tensor]:
        """Keyword arguments of a transformers model's forward."""
        inputs = {"input_ids": self.token_ids, "attention_mask": self.mask}
        if anatomy.takes_position_ids:
            inputs["position_ids"] = self.position_ids
        return inputs


def pad_left(token_ids: Sequence[Sequence[int]], device: torch.device) -> PaddedBatch:
    """Pad prompts on the left to the longest, so that their ends align."""
    width = max(len(ids) for ids in token_ids)
    padded = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in token_ids])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in token_ids])
    position_ids = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return PaddedBatch(padded.to(device), mask.to(device), position_ids.to(device))


def pad_right(
    token_ids: Sequence[Sequence[int]], device: torch.device | None = None, *, pad_id: int = 0
) -> PaddedBatch:
    """Pad prompts on the right to the longest, where no token sees the padding."""
    width = max(len(ids) for ids in token_ids)
    padded = torch.tensor([[*ids, *[pad_id] * (width - len(ids))] for ids in token_ids])
    return padded_on_the_right(padded, torch.tensor([len(ids) for ids in token_ids]), device)


def padded_on_the_right(
    token_ids: Tensor, lengths: Tensor, device: torch.device | None = None
) -> PaddedBatch:
    """Prompts `[prompt, column]` of some lengths `[prompt]`, already padded."""
    columns = torch.arange(token_ids.shape[1])
    mask = (columns < lengths[:, None]).long()
    return PaddedBatch(
        token_ids.to(device), mask.to(device), columns.expand_as(token_ids).to(device)
    )


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of at most `batch_size`, long first: little padding, early memory peak."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


@dataclass(frozen=True)
class PredictedContexts:
    """Contexts of one forward pass whose next tokens are predicted, padded on the right.

    All tensors but `numbers` are `[context, column]`, on the model's device.
    """

    numbers: Tensor
    """Their places in the block that they are from, int64 `[context]`, on the CPU."""
    padded: PaddedBatch
    changed: Tensor
    """bool: where the residual stream is changed."""
    predicting: Tensor
    """bool: columns whose prediction of the next token is measured."""
    languages: Tensor
    """int64: index into the corpus' languages, of the document."""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def next_tokens(self) -> Tensor:
        """What each measured prediction is of, int64 `[prediction]`."""
        return self.padded.token_ids.roll(-1, dims=1)[self.predicting]


def predicted_contexts(
    block: ContextBlock, positions: Literal["all", "last"], batch_size: int, device: torch.device
) -> Iterator[PredictedContexts]:
    """Divide contexts into forward passes of similar lengths, and choose their tokens.

    Measured are predictions made at kept tokens, of a next token in the same document. Changed is
    every kept token or, with `last`, the last one of each context at which a prediction is
    measured; then only that prediction is, since the others cannot change.
    """
    lengths = lengths_of(block)
    for contexts in batches_of_contexts(lengths, batch_size):
        width = max(1, int(lengths[contexts].max()))
        documents = block.documents[contexts, :width]
        kept = block.kept[contexts, :width]
        predicting = torch.zeros_like(kept)
        predicting[:, :-1] = kept[:, :-1] & (documents[:, 1:] == documents[:, :-1])
        if positions == "last":
            to_come = predicting.flip(1).cumsum(dim=1).flip(1)
            predicting &= to_come == 1
        token_ids = block.token_ids[contexts, :width].long()
        yield PredictedContexts(
            numbers=contexts,
            padded=padded_on_the_right(token_ids, lengths[contexts], device),
            changed=(kept if positions == "all" else predicting).to(device),
            predicting=predicting.to(device),
            languages=block.languages[contexts, :width].long().to(device),
        )


def next_token_losses(anatomy: Anatomy, output: Tensor, batch: PredictedContexts) -> Tensor:
    """Negative log-likelihood, in nats, of each measured prediction, float32 `[prediction]`.

    `output` is the stream after the last block, `[context, column, d_model]`. The head runs over
    parts of the predictions, so the vocabulary is never in memory for all of them.
    """
    hidden = output[batch.predicting]
    losses = torch.empty(len(hidden), device=hidden.device)
    step = max(1, LOGITS_AT_ONCE // int(anatomy.config.vocab_size))
    for start in range(0, len(hidden), step):
        part = slice(start, start + step)
        logits = anatomy.logits(hidden[part]).float()
        losses[part] = cross_entropy(logits, batch.next_tokens[part], reduction="none")
    return losses


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
