"""Contexts of a corpus in forward passes: what is changed, and how well tokens are predicted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from glossogenesis.corpora.tokenised import ContextBlock
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.context_windows import batches_of_contexts, lengths_of

LOGITS_AT_ONCE = 1 << 25
"""Logits that exist at a time: 128 MB of float32."""


@dataclass(frozen=True)
class ContextBatch:
    """Contexts of one forward pass, padded on the right to the longest of them.

    All tensors but `numbers` are `[context, column]`, on the model's device.
    """

    numbers: Tensor
    """Their places in the block that they are from, int64 `[context]`, on the CPU."""
    token_ids: Tensor
    """int64"""
    mask: Tensor
    """bool: False at padding."""
    changed: Tensor
    """bool: where the residual stream is changed."""
    predicting: Tensor
    """bool: columns whose prediction of the next token is measured."""
    languages: Tensor
    """int64: index into the corpus' languages, of the document."""

    def __len__(self) -> int:
        return len(self.numbers)


def context_batches(
    block: ContextBlock,
    batch_size: int,
    device: torch.device,
    *,
    positions: Literal["all", "last"] = "all",
) -> Iterator[ContextBatch]:
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
        yield ContextBatch(
            numbers=contexts,
            token_ids=block.token_ids[contexts, :width].long().to(device),
            mask=(torch.arange(width) < lengths[contexts, None]).to(device),
            changed=(kept if positions == "all" else predicting).to(device),
            predicting=predicting.to(device),
            languages=block.languages[contexts, :width].long().to(device),
        )


def next_token_losses(anatomy: Anatomy, normed: Tensor, batch: ContextBatch) -> Tensor:
    """Negative log-likelihood, in nats, of each measured prediction, float32 `[prediction]`.

    `normed` is the stream after the final norm, `[context, column, d_model]`. The head runs over
    parts of the predictions, so the vocabulary is never in memory for all of them.
    """
    hidden = normed[batch.predicting]
    next_tokens = batch.token_ids.roll(-1, dims=1)[batch.predicting]
    step = max(1, LOGITS_AT_ONCE // int(anatomy.config.vocab_size))
    losses = torch.empty(len(hidden), device=hidden.device)
    for start in range(0, len(hidden), step):
        part = slice(start, start + step)
        logits = anatomy.logits_of_normed(hidden[part]).float()
        losses[part] = cross_entropy(logits, next_tokens[part], reduction="none")
    return losses
