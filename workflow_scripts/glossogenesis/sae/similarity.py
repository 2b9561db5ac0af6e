"""How alike two dictionaries are: greatest cosines, and one-to-one matching.

Rows are the decoder's directions of latents; their norms do not count. The mean of the greatest
cosines is of Sharkey et al. 2022 (MMCS), the mean over a one-to-one matching is what
arXiv:2505.20254 calls PW-MCC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glossogenesis.sae.assignment import CHUNK_COSINES, Numbers, Values, assign


@dataclass(frozen=True)
class Matching:
    """Latents of two dictionaries in pairs, each in at most one."""

    first: Numbers
    """Numbers in the first dictionary, ascending [pair]; as many pairs as the smaller has rows."""
    second: Numbers
    """Their partners in the second [pair]."""
    cosines: Values
    """Cosine of each pair [pair]."""
    greatest_of_first: Values
    """Greatest cosine of each latent of the first with one of the second [latent]."""
    greatest_of_second: Values
    """The other way round [latent]."""

    @property
    def mean(self) -> float:
        """Mean cosine over the pairs; 1 where one dictionary is a permutation of the other."""
        return float(self.cosines.mean())

    @property
    def mmcs(self) -> float:
        """Mean of the greatest cosines of the first; it is not symmetric, so report both."""
        return float(self.greatest_of_first.mean())

    @property
    def mmcs_back(self) -> float:
        """Mean of the greatest cosines of the second."""
        return float(self.greatest_of_second.mean())


def unit_rows(directions: Tensor) -> Tensor:
    """Return rows [latent, d_model] with norm 1, float32; rows of zeros stay zeros."""
    directions = directions.detach().float()
    norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    unit: Tensor = directions / norms.clamp_min(torch.finfo(torch.float32).tiny)
    return unit


def self_similarity(directions: Tensor) -> Tensor:
    """Return max_{j != i} cos(i, j) for every row i of [latent, d_model], float32 [latent].

    ValueError where there is only one row.
    """
    if len(directions) < 2:
        raise ValueError("self-similarity needs at least two latents")
    rows = unit_rows(directions)
    step = max(1, CHUNK_COSINES // len(rows))
    greatest = []
    for start in range(0, len(rows), step):
        cosines = rows[start : start + step] @ rows.t()
        own = torch.arange(len(cosines), device=rows.device)
        cosines[own, own + start] = -torch.inf
        greatest.append(cosines.amax(dim=1))
    return torch.cat(greatest)


def match(first: Tensor, second: Tensor) -> Matching:
    """Return the one-to-one matching of latents with the greatest sum of cosines.

    `first` and `second` are [latent, d_model]; the pairs are as many as the smaller has rows.
    """
    if len(first) > len(second):
        swapped = match(second, first)
        order = np.argsort(swapped.second)
        return Matching(
            swapped.second[order],
            order,
            swapped.cosines[order],
            swapped.greatest_of_second,
            swapped.greatest_of_first,
        )
    found = assign(unit_rows(first), unit_rows(second))
    return Matching(
        np.arange(len(first)),
        found.columns,
        found.cosines,
        found.greatest_of_rows,
        found.greatest_of_columns,
    )
