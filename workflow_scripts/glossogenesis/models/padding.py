"""Prompts of different lengths in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy


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
