"""Rows of sufficiency and necessity, with random circuits of the same size beside them.

Sufficiency: accuracy with everything but the circuit ablated; relative, divided by that of the
whole classifier; in points, how much it differs from it (below 0: lost). Necessity: accuracy that
is lost when the circuit is ablated; relative, divided by that of the whole; in points. Intervals
resample posts, with what the whole and the ablated classifier make of each. Random circuits have
one row: the mean over draws, and their range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from glossogenesis.robustness.tables.inputs import shortest_digits
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.statistics.resampling import BOOTSTRAP, OVER_DRAWS, Floats, counts_estimate

RANDOM = "random"
UNITS = ("relative", "points")

ABLATIONS = {
    "set": pl.String,
    "threshold": pl.Float32,
    "measure": pl.String,
    "circuit": pl.String,
    "draw": pl.Int16,
    "size": pl.Int16,
    "method": pl.String,
    "positions": pl.String,
    **dict.fromkeys(("n", "correct", "correct_full", "lost", "gained"), pl.Int32),
}
KEYS = ("set", "threshold", "measure", "circuit", "method", "positions")


def ablation_rows(ablations: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Two rows, relative and in points, of every ablation of every circuit."""
    rows = []
    named = ablations.with_columns(threshold=shortest_digits("threshold"))
    for keys, draws in named.group_by(KEYS, maintain_order=True):
        told = dict(zip(KEYS, keys, strict=True)) | {"n": draws["n"][0]}
        for unit in UNITS:
            found = told | {"unit": unit}
            if told["circuit"] == RANDOM:
                rows.append(found | _over_draws(draws, str(told["measure"]), unit))
            else:
                rows.append(found | _of_posts(draws, str(told["measure"]), unit, bootstrap))
    return rows


def outcomes(row: dict[str, Any]) -> list[int]:
    """Posts that are right in both, lost, gained, and wrong in both classifiers."""
    both = row["correct_full"] - row["lost"]
    wrong = row["n"] - row["correct_full"] - row["gained"]
    return [both, row["lost"], row["gained"], wrong]


def value_of(counts: Floats, measure: str, unit: str) -> Floats:
    """Sufficiency or necessity of counts [..., outcome] as `outcomes` orders them: [...].

    NaN where the whole classifier is never right, and a share of that is asked for.
    """
    both, lost, gained, _ = np.moveaxis(counts, -1, 0)
    full, ablated = both + lost, both + gained
    found: Floats
    if unit == "points":
        change = 100 * (ablated - full) / counts.sum(axis=-1)
        found = change if measure == "sufficiency" else -change
        return found + 0.0  # no negative zero
    share = np.divide(ablated, full, out=np.full_like(full, np.nan), where=full > 0)
    found = share if measure == "sufficiency" else 1 - share
    return found


def _of_posts(draws: pl.DataFrame, measure: str, unit: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """A circuit, with the interval of a bootstrap over posts."""
    cells = outcomes(draws.row(0, named=True))
    estimate = counts_estimate(cells, lambda counts: value_of(counts, measure, unit), bootstrap)
    note = None if np.isfinite(estimate.value) else "the whole classifier is never right"
    return {**vars(estimate), "interval": BOOTSTRAP.format("posts"), "note": note}


def _over_draws(draws: pl.DataFrame, measure: str, unit: str) -> dict[str, Any]:
    """Random circuits: mean over draws, lowest and highest."""
    cells = np.array([outcomes(row) for row in draws.iter_rows(named=True)], dtype=np.float64)
    values = value_of(cells, measure, unit)
    ends = {"low": float(values.min()), "high": float(values.max()), "interval": OVER_DRAWS}
    return {"value": float(values.mean()), **ends, "draws": draws.height}
