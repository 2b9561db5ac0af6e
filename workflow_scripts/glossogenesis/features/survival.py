r"""Survival: the share of a spelling's features that is left without those of another spelling.

    survival(a -> b) = |F_b \ F_a| / |F_b|   (Fukasawa 2026)

where F holds a spelling's k strongest features, or all that fire where they are fewer. It is 1
where b shares no feature with a, so that what reads b does not depend on what reads a, and 0 where
all of b's features are a's too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.spellings import Spelling
from glossogenesis.robustness.spellings import StrongestFeatures

SURVIVAL_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "arm": pl.String,  # sentence: each spelling's own; carrier: one for all
        "k": pl.Int32,
        "concept": pl.String,
        "first": pl.String,
        "second": pl.String,
        "first_kind": pl.String,
        "second_kind": pl.String,
        "survival": pl.Float64,  # null where no feature fires on the second spelling
        "chance": pl.Float64,
        "unrelated": pl.Float64,  # mean survival without a spelling of another concept
        "n_active": pl.Int32,
        "shared": pl.Int32,
        "first_features": pl.Int32,
        "second_features": pl.Int32,
    }
)


def survival_rows(
    spellings: Sequence[Spelling], found: StrongestFeatures, ks: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a row for every k and every ordered pair of spellings of one concept.

    `chance` is what random features would give: without any set of |F_a| of the `n_active` features
    that fire on some spelling, the expected share of b's that is left (by the mean of the
    hypergeometric distribution). Features are not used evenly, so spellings that have nothing to do
    with each other share more than that: `unrelated` is the mean survival of b over the spellings
    of all other concepts in the place of a. Rows lack `layer` and `arm`.

    Args:
        spellings: the table, in its order.
        found: features of each spelling, at least max(`ks`) of them where as many fire.
        ks: numbers of features that are compared.
    """
    concepts = np.array([spelling.concept for spelling in spellings])
    rows = []
    for k in ks:
        sets = [features[:k] for features in found.of_spelling]
        sizes = [len(features) for features in sets]
        shared = _shared_features(sets)
        for second, spelling in enumerate(spellings):
            others = shared[concepts != spelling.concept, second]
            unrelated = _left(float(others.mean()), sizes[second]) if len(others) else None
            for first in np.flatnonzero(concepts == spelling.concept).tolist():
                if first == second:
                    continue
                rows.append(
                    {
                        "k": k,
                        "concept": spelling.concept,
                        "first": spellings[first].variant,
                        "second": spelling.variant,
                        "first_kind": spellings[first].kind,
                        "second_kind": spelling.kind,
                        "survival": _left(int(shared[first, second]), sizes[second]),
                        "chance": _left(sizes[first], found.n_active),
                        "unrelated": unrelated,
                        "n_active": found.n_active,
                        "shared": int(shared[first, second]),
                        "first_features": sizes[first],
                        "second_features": sizes[second],
                    }
                )
    return rows


def _shared_features(sets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return how many features each two spellings have in common, `[spelling, spelling]`."""
    used = np.unique(np.concatenate(sets)) if sets else np.empty(0, np.int64)
    has = np.zeros((len(sets), len(used)), np.int64)
    for number, features in enumerate(sets):
        has[number, np.searchsorted(used, features)] = 1
    return has @ has.T


def _left(taken: float, whole: int) -> float | None:
    """Return the share of something that is left, or of nothing None."""
    return (whole - taken) / whole if whole else None
