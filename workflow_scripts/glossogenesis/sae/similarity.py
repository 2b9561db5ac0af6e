"""How alike two dictionaries are: greatest cosines, and one-to-one matching.

Rows are the decoder's directions of latents; their norms do not count. The mean of the greatest
cosines is of Sharkey et al. 2022 (MMCS), the mean over a one-to-one matching is what
arXiv:2505.20254 calls PW-MCC.

Nearly every row's partner is among its nearest columns, so the assignment is solved on those pairs
alone. Prices of columns then prove it the best of all, or say which pairs it lacks, and it is
solved again with them: column generation for the linear program of assignment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK_COSINES = 8_388_608
"""Cosines that exist at a time: 32 MB of float32."""

NEAREST = 32
"""Columns of each row that are tried at first."""

TOLERANCE = 1e-7
"""What a row may gain by another column: about the precision of a cosine in float32."""

ROUNDING = 1e-12
"""A rise of prices that is rounding in float64."""

Numbers = NDArray[np.int64]
Values = NDArray[np.float64]


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


@dataclass(frozen=True)
class Assignment:
    """Each row's own column, and the greatest cosines, which are found on the way."""

    columns: Numbers
    """[row]"""
    cosines: Values
    """Of each row with its own column [row]."""
    greatest_of_rows: Values
    """Greatest cosine with any column [row]."""
    greatest_of_columns: Values
    """Greatest cosine with any row [column]."""


@dataclass(frozen=True)
class _Pairs:
    """Pairs that are tried."""

    places: Numbers
    """`row * columns + column` of each pair, ascending, none twice [pair]."""
    cosines: Values
    """[pair]"""

    def with_others(self, places: list[Numbers], cosines: list[Values]) -> _Pairs:
        """Return these pairs and those of others that are not among them."""
        joined, first = np.unique(np.concatenate([self.places, *places]), return_index=True)
        return _Pairs(joined, np.concatenate([self.cosines, *cosines])[first])


def assign(rows: Tensor, columns: Tensor) -> Assignment:
    """Assign each row a column of its own so that the sum of cosines is the greatest.

    Rows [row, d_model] and columns [column, d_model] have norm 1, float32; there are no more rows
    than columns. The mean cosine falls short of the best by less than `TOLERANCE`.
    """
    n_columns = len(columns)
    pairs, greatest, greatest_of_columns = _nearest(rows, columns)
    own_places = np.arange(len(rows)) * n_columns
    tried = min(NEAREST, n_columns)
    while True:
        chosen = _assigned(pairs, len(rows), n_columns)
        own = pairs.cosines[np.searchsorted(pairs.places, own_places + chosen)]
        prices = _prices(pairs, n_columns, chosen, own)
        profits = own - prices[chosen]
        # Prices are not negative: a column that is not tried gives a row no more than its cosine,
        # which is at most that of the last of its nearest.
        doubtful = np.flatnonzero(greatest[:, -1] > profits + TOLERANCE)
        more = pairs.with_others(
            *_better_pairs(rows, columns, doubtful, prices, profits, min(tried, n_columns))
        )
        if len(more.places) == len(pairs.places):
            return Assignment(chosen, own, greatest[:, 0], greatest_of_columns)
        pairs, tried = more, 2 * tried


def _nearest(rows: Tensor, columns: Tensor) -> tuple[_Pairs, Values, Values]:
    """Return each row's nearest columns, and the diagonal, so that there is an assignment.

    Also returned: the cosines of the nearest, the greatest first [row, nearest], and the greatest
    cosine of each column.
    """
    n_columns = len(columns)
    places, cosines = [], []
    greatest, greatest_of_columns = [], torch.full((n_columns,), -torch.inf)
    step = max(1, CHUNK_COSINES // n_columns)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step] @ columns.t()
        nearest = chunk.topk(min(NEAREST, n_columns), dim=1)
        numbers = torch.arange(start, start + len(chunk))
        places += [numbers[:, None] * n_columns + nearest.indices, numbers * (n_columns + 1)]
        # A view of the diagonal would keep the whole chunk.
        cosines += [nearest.values, chunk.diagonal(start).clone()]
        greatest.append(nearest.values)
        greatest_of_columns = torch.maximum(greatest_of_columns, chunk.amax(dim=0))
    none = _Pairs(np.empty(0, np.int64), np.empty(0))
    pairs = none.with_others(
        [part.flatten().numpy() for part in places],
        [part.flatten().double().numpy() for part in cosines],
    )
    return pairs, torch.cat(greatest).double().numpy(), greatest_of_columns.double().numpy()


def _assigned(pairs: _Pairs, n_rows: int, n_columns: int) -> Numbers:
    """Return each row's column in the best assignment of the pairs, by Jonker and Volgenant."""
    # scipy takes long to import, and training reads modules that import this one.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    # A cost of zero would be no pair.
    costs = csr_array((2 - pairs.cosines, np.divmod(pairs.places, n_columns)), (n_rows, n_columns))
    columns: Numbers = min_weight_full_bipartite_matching(costs)[1].astype(np.int64)
    return columns


def _prices(pairs: _Pairs, n_columns: int, chosen: Numbers, own: Values) -> Values:
    """Return the lowest prices [column] at which each row is best off with its own column.

    A row's profit is a column's cosine less its price; no price is negative, and columns without a
    row are free. Where such prices exist, no assignment has a greater sum. They are longest paths,
    found by Bellman and Ford's algorithm.
    """
    rows, columns = np.divmod(pairs.places, n_columns)
    own_columns, more = chosen[rows], pairs.cosines - own[rows]
    prices = np.zeros(n_columns)
    while True:
        raised = prices.copy()
        np.maximum.at(raised, columns, prices[own_columns] + more)
        if (raised - prices).max() < ROUNDING:
            return prices
        prices = raised


def _better_pairs(
    rows: Tensor, columns: Tensor, doubtful: Numbers, prices: Values, profits: Values, most: int
) -> tuple[list[Numbers], list[Values]]:
    """Return the columns at which doubtful rows would gain, the best `most` of each."""
    places, cosines = [], []
    step = max(1, CHUNK_COSINES // len(columns))
    for start in range(0, len(doubtful), step):
        numbers = torch.from_numpy(doubtful[start : start + step])
        chunk = (rows[numbers] @ columns.t()).double()
        best = (chunk - torch.from_numpy(prices)).topk(most, dim=1)
        gains = best.values > torch.from_numpy(profits)[numbers, None] + TOLERANCE
        places.append((numbers[:, None] * len(columns) + best.indices)[gains].numpy())
        cosines.append(chunk.gather(1, best.indices)[gains].numpy())
    return places, cosines
