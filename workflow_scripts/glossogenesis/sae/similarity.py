"""How alike two dictionaries are: greatest cosines, and one-to-one matching.

Rows are the decoder's directions of latents; their norms do not count. The mean of the greatest
cosines is of Sharkey et al. 2022 (MMCS), the mean over a one-to-one matching is what
arXiv:2505.20254 calls PW-MCC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK_COSINES = 8_388_608
"""Cosines that exist at a time where not all are needed: 32 MB of float32."""


@dataclass(frozen=True)
class Matching:
    """Latents of two dictionaries in pairs, each in at most one."""

    first: NDArray[np.int64]
    """Numbers in the first dictionary, ascending [pair]; as many pairs as the smaller has rows."""
    second: NDArray[np.int64]
    """Their partners in the second [pair]."""
    cosines: NDArray[np.float64]
    """Cosine of each pair [pair]."""

    @property
    def mean(self) -> float:
        """Mean cosine over the pairs."""
        return float(self.cosines.mean())


def unit_rows(directions: Tensor) -> Tensor:
    """Return rows [latent, d_model] with norm 1, float32; rows of zeros stay zeros."""
    directions = directions.detach().float()
    norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    unit: Tensor = directions / norms.clamp_min(torch.finfo(torch.float32).tiny)
    return unit


def greatest_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Return max_b cos(a, b) for every row a of `first`, float32 [latent].

    `first` and `second` are [latent, d_model], their numbers of rows may differ. The matrix of all
    cosines never exists.
    """
    first, second = unit_rows(first), unit_rows(second)
    step = max(1, CHUNK_COSINES // len(second))
    return torch.cat([(chunk @ second.t()).amax(dim=1) for chunk in first.split(step)])


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


def mmcs(first: Tensor, second: Tensor) -> float:
    """Return the mean over `first` of the greatest cosine with a row of `second`.

    MMCS(A, B) = mean_a max_b cos(a, b). It is not symmetric: report both directions.
    """
    return float(greatest_cosines(first, second).double().mean())


def match(first: Tensor, second: Tensor) -> Matching:
    """Return the one-to-one matching of latents with the greatest sum of cosines.

    The Hungarian method by scipy, on rows of `first` and `second` [latent, d_model]. One float64
    matrix of all cosines is allocated (8.6 GB for 32,768 latents a side); scipy works on it in
    place of a copy.
    """
    # scipy takes long to import, and training reads this module's neighbours.
    from scipy.optimize import linear_sum_assignment

    swapped = len(first) > len(second)
    rows, columns = (second, first) if swapped else (first, second)
    # scipy copies a matrix that it has to negate (`maximize`) or to transpose (more rows than
    # columns), so it is given the negative cosines, the smaller dictionary first.
    costs = _negative_cosines(unit_rows(rows), unit_rows(columns))
    left, right = linear_sum_assignment(costs)
    cosines = -costs[left, right]
    if swapped:
        order = np.argsort(right)
        left, right, cosines = right[order], left[order], cosines[order]
    return Matching(left.astype(np.int64), right.astype(np.int64), cosines)


def matched_cosine(first: Tensor, second: Tensor) -> float:
    """Return the mean cosine over matched pairs; 1 where one is a permutation of the other."""
    return match(first, second).mean


def _negative_cosines(rows: Tensor, columns: Tensor) -> NDArray[np.float64]:
    """-cos of all pairs, float64 [row, column], filled a chunk at a time."""
    costs = np.empty((len(rows), len(columns)))
    step = max(1, CHUNK_COSINES // len(columns))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step] @ columns.t()
        costs[start : start + len(chunk)] = -chunk.cpu().numpy()
    return costs
