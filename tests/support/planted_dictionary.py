"""A planted dictionary: activations that are sums of a few known directions, and noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Planted:
    directions: Tensor  # [feature, d_model], unit rows
    activations: Tensor  # [row, d_model]


def planted(
    *, n_features: int, d_model: int, active: int, rows: int, noise: float = 0.0, seed: int = 0
) -> Planted:
    """Each row is the sum of `active` random directions with strengths between 0.5 and 1.5."""
    generator = torch.Generator().manual_seed(seed)
    directions = functional.normalize(torch.randn(n_features, d_model, generator=generator), dim=1)
    chosen = torch.rand(rows, n_features, generator=generator).topk(active, dim=1).indices
    strengths = torch.rand(rows, active, generator=generator) + 0.5
    codes = torch.zeros(rows, n_features).scatter_(1, chosen, strengths)
    extra = noise * torch.randn(rows, d_model, generator=generator)
    return Planted(directions, codes @ directions + extra)


def best_cosines(directions: Tensor, w_dec: Tensor) -> Tensor:
    """For each true direction, the cosine of the nearest row of a decoder."""
    return (directions @ functional.normalize(w_dec, dim=1).t()).amax(1)
