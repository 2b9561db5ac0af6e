"""Monosemanticity: whether the tokens that activate a feature mean one thing (Inaba et al. 2025).

    R = 1 - H_semantic / H_token,

where H_token is the entropy of a feature's activating tokens, one from each of its examples, and
H_semantic that of the clusters of their embeddings. R is 1 where there is a single token type. The
clusters are agglomerative, by cosine distance, cut where clusters are less similar than a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.errors import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.progress import progress
from glossogenesis.study.features import Linkage

Reals = NDArray[np.float64]

_ROUNDING = 1e-6
"""Distances are cut this much later: cosines of float32 vectors are known to about that."""

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class TokenTypes:
    """The different activating tokens of every feature, by feature and then by token id."""

    token_ids: NDArray[np.int32]
    counts: NDArray[np.int32]
    """Examples with that token."""
    starts: NDArray[np.int64]
    """Where the tokens of each feature begin, and where the last end, [feature + 1]."""

    @classmethod
    def of(cls, examples: Examples) -> TokenTypes:
        """Count the activating tokens of examples."""
        keys = examples.features << 32 | examples.token_column("token_id").astype(np.int64)
        found, counts = np.unique(keys, return_counts=True)
        starts = np.searchsorted(found, np.arange(len(examples.counts) + 1) << 32)
        token_ids = (found & ((1 << 32) - 1)).astype(np.int32)
        return cls(token_ids, counts.astype(np.int32), starts)

    @property
    def number(self) -> NDArray[np.int64]:
        """Token types of each feature, [feature]."""
        number: NDArray[np.int64] = np.diff(self.starts)
        return number

    @property
    def features(self) -> NDArray[np.int64]:
        """Feature of each entry."""
        features: NDArray[np.int64] = np.repeat(np.arange(len(self.number)), self.number)
        return features

    def entropies(self) -> Reals:
        """H_token of each feature in nats, [feature]; NaN where there is no example."""
        return _entropies(self.features, self.counts, len(self.number))


def unit_vectors(embedding: Tensor) -> NDArray[np.float32]:
    """Return vectors of tokens [token, dimension] at unit length; those of zeros stay so.

    StudyError where a vector is not finite.
    """
    unit = np.empty(tuple(embedding.shape), np.float32)
    for start in range(0, len(embedding), _ROWS_AT_ONCE):
        rows = embedding[start : start + _ROWS_AT_ONCE].float()
        if not bool(rows.isfinite().all()):
            raise StudyError(
                "the embedding of tokens holds numbers that are not finite; set another "
                "`features.monosemanticity.embedding`"
            )
        unit[start : start + len(rows)] = torch.nn.functional.normalize(rows, dim=1).numpy()
    return unit


def meaning_entropies(
    types: TokenTypes, unit: NDArray[np.float32], linkage: Linkage, cosines: Sequence[float]
) -> dict[float, Reals]:
    """H_semantic of every feature, for several cuts of the same clusters.

    Args:
        types: activating tokens.
        unit: vectors of unit length [token, dimension].
        linkage: `single`, `average` or `complete`.
        cosines: clusters at least this similar are one meaning.

    Returns:
        By cosine, entropies in nats [feature]; NaN where a feature has no example.

    Raises:
        StudyError: an activating token has no vector.
    """
    largest = int(types.token_ids.max(initial=-1))
    if largest >= len(unit):
        raise StudyError(
            f"the embedding has vectors of {len(unit)} tokens, but token {largest} activates a "
            "feature; give one of the same tokenizer in `features.monosemanticity.embedding`"
        )
    cuts = _cuts(types, unit, linkage, [1 - cosine + _ROUNDING for cosine in cosines])
    features = types.features
    entropies = {}
    for cosine, clusters in zip(cosines, cuts, strict=True):
        # A feature has no more clusters than tokens, so they fit in the places of its tokens.
        counts = np.bincount(
            types.starts[features] + clusters, types.counts, minlength=len(features)
        )
        entropies[cosine] = _entropies(features, counts, len(types.number))
    return entropies


def monosemanticity(token_entropy: Reals, meaning_entropy: Reals) -> Reals:
    """1 - H_semantic / H_token [feature]; 1 for a single token type, NaN without example."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = 1 - meaning_entropy / token_entropy
    # Where nothing is joined, the two entropies are one sum in two orders.
    return np.where(token_entropy == 0, 1.0, ratio.clip(0, 1))


def _cuts(
    types: TokenTypes, unit: NDArray[np.float32], linkage: Linkage, distances: Sequence[float]
) -> NDArray[np.int32]:
    """Cluster of each token within its feature, from 0, for each cut: [cut, entry]."""
    # scipy takes a moment to import, and whoever trains an autoencoder needs none of it.
    from scipy.cluster import hierarchy

    clusters = np.zeros((len(distances), len(types.token_ids)), np.int32)
    several = np.flatnonzero(types.number > 1)
    for feature in progress(several, label=f"meanings, {linkage} linkage", unit="feature"):
        here = slice(types.starts[feature], types.starts[feature + 1])
        vectors = unit[types.token_ids[here]].astype(np.float64)
        apart = 1 - vectors @ vectors.T
        above = np.triu_indices(len(vectors), 1)
        tree = hierarchy.linkage(apart[above].clip(min=0), linkage)
        for cut, distance in enumerate(distances):
            clusters[cut, here] = hierarchy.fcluster(tree, distance, "distance") - 1
    return clusters


def _entropies(groups: NDArray[np.int64], counts: NDArray[Any], n_groups: int) -> Reals:
    """Entropy in nats of the counts of each group; NaN where a group has none."""
    groups, counts = groups[counts > 0], counts[counts > 0]
    totals = np.bincount(groups, counts, minlength=n_groups)
    shares = counts / totals[groups]
    entropies = np.bincount(groups, -shares * np.log(shares), minlength=n_groups)
    # -1 x log 1 is minus zero.
    return np.where(totals > 0, entropies + 0.0, np.nan)
