"""Which latents of a token, or of a whole batch, are the largest, without sorting all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_VALUES = 16_777_216
"""Dense latents that exist at a time: 64 MB of float32. With fewer tokens in a chunk the encoder's
product slows down, since it packs the weights anew for each."""


@dataclass(frozen=True)
class SelectedLatents:
    """Latents that training looks at, in coordinate form; a value of zero stands for no latent."""

    rows: Tensor
    """Token of each, int64 [selected], ascending."""
    latents: Tensor
    """Number of each in the dictionary, int64 [selected]."""
    values: Tensor
    """Activation of each, not negative [selected]."""
    offsets: Tensor
    """Where those of each token begin, and where the last end, int64 [row + 1]."""


def rows_in_chunk(n_latents: int) -> int:
    """Return how many tokens' dense latents to form at a time."""
    return max(1, CHUNK_VALUES // n_latents)


def largest_positive(before: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest latents of each row after ReLU, and their numbers.

    Args:
        before: pre-activations [row, latent].
        k: how many.

    Returns:
        values [row, k], zero where fewer than k are positive, and latents int64 [row, k].
    """
    values, latents = torch.topk(before, k, dim=-1, sorted=False)
    return values.clamp_min_(0.0), latents


class LargestOfRows:
    """Collects the k largest positive latents of every token, chunk by chunk."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, before: Tensor) -> None:
        """Look at the pre-activations [row, latent] of the next tokens."""
        self._parts.append(largest_positive(before, self._k))

    def selected(self, dtype: torch.dtype) -> SelectedLatents:
        """Return what was collected, k entries a token, with values in `dtype`."""
        values = torch.cat([part[0] for part in self._parts])
        latents = torch.cat([part[1] for part in self._parts])
        n_rows, k = values.shape
        rows = torch.arange(n_rows, device=values.device)
        return SelectedLatents(
            rows=rows.repeat_interleave(k),
            latents=latents.flatten(),
            values=values.flatten().to(dtype),
            offsets=torch.arange(0, n_rows * k + 1, k, device=values.device),
        )


class LargestOfBatch:
    """Collects the `wanted` largest positive latents of a whole batch, chunk by chunk.

    Only latents above a bound are collected. Where the bound was too high (`too_few`), the batch
    must be looked at again with a lower one, so what is selected does not depend on the bound.
    """

    def __init__(self, wanted: int, bound: float) -> None:
        self._wanted = wanted
        self.bound = max(bound, 0.0)
        self._n_rows = 0
        self._rows: list[Tensor] = []
        self._latents: list[Tensor] = []
        self._values: list[Tensor] = []

    @property
    def too_few(self) -> bool:
        """Whether a lower bound could have selected more."""
        return self.bound > 0 and sum(len(part) for part in self._values) < self._wanted

    def add(self, before: Tensor) -> None:
        """Look at the pre-activations [row, latent] of the next tokens."""
        rows, latents = (before > self.bound).nonzero(as_tuple=True)
        self._rows.append(rows + self._n_rows)
        self._latents.append(latents)
        self._values.append(before[rows, latents])
        self._n_rows += len(before)
        if sum(len(part) for part in self._values) > 4 * self._wanted:
            self._keep_largest()

    def selected(self, dtype: torch.dtype) -> SelectedLatents:
        """Return the largest, in order of rows, with values in `dtype`."""
        self._keep_largest()
        counts = torch.bincount(self._rows[0], minlength=self._n_rows)
        return SelectedLatents(
            rows=self._rows[0],
            latents=self._latents[0],
            values=self._values[0].to(dtype),
            offsets=torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
        )

    def _keep_largest(self) -> None:
        """Drop what cannot be among the largest; of equal values the first in order stay."""
        rows, latents, values = (
            torch.cat(parts) for parts in (self._rows, self._latents, self._values)
        )
        if len(values) > self._wanted:
            least = values.kthvalue(len(values) - self._wanted + 1).values
            above = values > least
            ties = (values == least).nonzero().flatten()
            above[ties[: self._wanted - int(above.sum())]] = True
            rows, latents, values = rows[above], latents[above], values[above]
        self._rows, self._latents, self._values = [rows], [latents], [values]


def first_bound(before: Tensor, k: int) -> float:
    """Return a bound that about twice `k` latents a token exceed, from some tokens' latents."""
    twice = min(2 * k, before.shape[1])
    return float(torch.topk(before[:256], twice, dim=-1).values[:, -1].min())
