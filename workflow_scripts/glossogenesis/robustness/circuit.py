"""The circuit of a classifier: components whose mean effect over pairs reaches a threshold.

The mean includes pairs whose effect is undefined and stands as 0. Intervals resample pairs. Two
posts may occur in several pairs, which makes pairs a little less than independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.models.anatomy import COMPONENTS
from glossogenesis.statistics.intervals import Bootstrap, bootstrap_ratios, times_drawn
from glossogenesis.study.setups import depth_thirds

Floats = NDArray[np.float64]
Members = NDArray[np.bool_]
"""`[layer, component]`: which components belong to a circuit; axes in the order of `COMPONENTS`."""

Measure = Literal["sufficiency", "necessity"]

CIRCUIT_SCHEMA = pl.Schema(
    {
        "set": pl.String,
        "threshold": pl.Float32,
        "layer": pl.Int16,
        "component": pl.String,
        "effect": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "in_circuit": pl.Boolean,
        "membership": pl.Float64,
    }
)
"""`effect` is the mean over the set's pairs, `membership` the share of resamples of pairs in which
it reaches the threshold; both ends are null where there is a single pair."""

EFFECT_SUMS_SCHEMA = pl.Schema(
    {
        "set": pl.String,
        "threshold": pl.Float32,
        "region": pl.String,
        "component": pl.String,
        "over": pl.String,
        "total": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "share": pl.Float64,
    }
)

MEASURES: tuple[Measure, ...] = ("sufficiency", "necessity")

# What a seed is combined with, so that other draws with the seed tell nothing of random circuits.
_RANDOM_CIRCUITS = 3


@dataclass(frozen=True, eq=False)
class Circuit:
    """Components that are kept or ablated together."""

    set: str
    threshold: float
    kind: Literal["effect", "random", "all", "none"]
    draw: int
    members: Members

    def replaced(self, measure: Measure) -> Members:
        """The components that give way: all others for sufficiency, its own for necessity."""
        return ~self.members if measure == "sufficiency" else self.members


def circuit_table(
    effects: pl.DataFrame, thresholds: Sequence[float], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Mean effect of each component with its interval, and the circuit at each threshold.

    Returns rows of `CIRCUIT_SCHEMA`, by set in the order of `effects`, threshold in the given
    order, layer and component.
    """
    parts = [pl.DataFrame(schema=CIRCUIT_SCHEMA)]
    for name, matrix in effect_matrices(effects).items():
        pairs, n_layers, _ = matrix.shape
        means = matrix.mean(axis=0)
        low, high = _interval(matrix.reshape(pairs, -1), bootstrap)
        resampled = _resampled_means(matrix.reshape(pairs, -1), bootstrap)
        for threshold in thresholds:
            columns = {
                "set": [name] * means.size,
                "threshold": [threshold] * means.size,
                "layer": np.repeat(np.arange(n_layers), len(COMPONENTS)),
                "component": list(COMPONENTS) * n_layers,
                "effect": means.ravel(),
                "low": low,
                "high": high,
                "in_circuit": (means >= threshold).ravel(),
                "membership": (resampled >= threshold).mean(axis=0),
            }
            parts.append(pl.DataFrame(columns, schema=CIRCUIT_SCHEMA))
    return pl.concat(parts)


def circuits_of(
    table: pl.DataFrame, thresholds: Sequence[float], *, random_draws: int, seed: int
) -> list[Circuit]:
    """The circuits to test, from `circuit_table`: by set, threshold, kind and draw.

    Random circuits depend on seed, size and draw alone, so that circuits of equal size share them.
    """
    circuits: list[Circuit] = []
    for name in table["set"].unique(maintain_order=True):
        of_set = table.filter(pl.col("set") == name).partition_by("threshold", maintain_order=True)
        for threshold, rows in zip(thresholds, of_set, strict=True):
            members = members_of(rows)
            everything = np.ones_like(members)
            circuits.append(Circuit(name, threshold, "effect", 0, members))
            circuits += [
                Circuit(name, threshold, "random", draw, _random_members(members, draw, seed))
                for draw in range(random_draws)
            ]
            circuits.append(Circuit(name, threshold, "all", 0, everything))
            circuits.append(Circuit(name, threshold, "none", 0, ~everything))
    return circuits


def members_of(circuit: pl.DataFrame) -> Members:
    """The circuit of one set and threshold, from its rows of `circuit_table`."""
    # In alphabetical order, which is that of `COMPONENTS`.
    ordered = circuit.sort("layer", "component")
    members: Members = ordered["in_circuit"].to_numpy().reshape(-1, len(COMPONENTS))
    return members


def effect_sums(
    effects: pl.DataFrame, n_layers: int, threshold: float, bootstrap: Bootstrap
) -> pl.DataFrame:
    """Sums of mean effects over the circuit and over all components, by depth and by component.

    Sums over the circuit are of `cross_fitted` effects, whose circuits stay the same in every
    resample. `region` is `all` or one of
    `depth_thirds`, `component` is `both` or one of `COMPONENTS`, `over` is `circuit` or `all`;
    `share` is the part of the row's `total` in the total of `all` and `both` over the same
    components, null where that is 0. Both ends are null where there is a single pair.

    Returns rows of `EFFECT_SUMS_SCHEMA`, by set in the order of `effects`.
    """
    regions = {"all": range(n_layers), **depth_thirds(n_layers)}
    parts = [pl.DataFrame(schema=EFFECT_SUMS_SCHEMA)]
    for name, matrix in effect_matrices(effects).items():
        chosen = {"circuit": cross_fitted(matrix, threshold), "all": matrix}
        rows = [
            (over, region, component, _part(regions[region], component, n_layers))
            for over in chosen
            for region in regions
            for component in ("both", *COMPONENTS)
        ]
        sums = np.stack([chosen[over][:, part].sum(axis=1) for over, *_, part in rows], axis=1)
        low, high = _interval(sums, bootstrap)
        totals = sums.mean(axis=0)
        whole = np.repeat(totals[:: len(rows) // 2], len(rows) // 2)
        columns = {
            "set": [name] * len(rows),
            "threshold": [threshold] * len(rows),
            "region": [region for _, region, _, _ in rows],
            "component": [component for _, _, component, _ in rows],
            "over": [over for over, *_ in rows],
            "total": totals,
            "low": low,
            "high": high,
            "share": _shares(totals, whole),
        }
        parts.append(pl.DataFrame(columns, schema=EFFECT_SUMS_SCHEMA))
    return pl.concat(parts)


def cross_fitted(matrix: Floats, threshold: float) -> Floats:
    """Effects `[pair, layer, component]` over circuits that other pairs chose, 0 outside of them.

    A component is in a circuit where its mean effect reaches the threshold, partly by luck: over
    the pairs that chose it, effects are too large. So pairs are taken alternately in two halves,
    and each half is summed over the circuit of the other. A single pair has none but its own.
    """
    half = np.arange(len(matrix)) % 2 if len(matrix) > 1 else np.zeros(len(matrix), int)
    circuits = np.stack([matrix[half == each].mean(axis=0) for each in np.unique(half)])
    members: Members = circuits[::-1][half] >= threshold
    kept: Floats = np.where(members, matrix, 0.0)
    return kept


def effect_matrices(effects: pl.DataFrame, column: str = "effect") -> Mapping[str, Floats]:
    """Effects `[pair, layer, component]` of each set, in the order of the sets, or another column.

    ValueError where a pair lacks a component.
    """
    n_layers = effects["layer"].n_unique()
    matrices = {}
    for (name,), rows in effects.group_by("set", maintain_order=True):
        ordered = rows.sort("pair", "layer", "component")
        shape = (ordered["pair"].n_unique(), n_layers, len(COMPONENTS))
        if ordered.height != np.prod(shape):
            raise ValueError(f"{ordered.height} effects in set {name!r}, not {shape}")
        matrices[str(name)] = ordered[column].to_numpy().astype(np.float64).reshape(shape)
    return matrices


def _random_members(members: Members, draw: int, seed: int) -> Members:
    """A circuit of the same size, uniform over all components."""
    size = int(members.sum())
    generator = np.random.default_rng([seed, _RANDOM_CIRCUITS, size, draw])
    drawn = np.zeros(members.size, dtype=bool)
    drawn[generator.choice(members.size, size, replace=False)] = True
    return drawn.reshape(members.shape)


def _part(layers: range, component: str, n_layers: int) -> Members:
    """Components of some layers: those of one kind, or `both`."""
    members = np.zeros((n_layers, len(COMPONENTS)), dtype=bool)
    kinds = range(len(COMPONENTS)) if component == "both" else [COMPONENTS.index(component)]
    members[np.ix_(list(layers), list(kinds))] = True
    return members


def _shares(totals: Floats, whole: Floats) -> pl.Series:
    """Each total's part in its whole; null where that is 0."""
    unknown = np.full(totals.shape, np.nan)
    return pl.Series(np.divide(totals, whole, out=unknown, where=whole != 0)).fill_nan(None)


def _interval(values: Floats, bootstrap: Bootstrap) -> tuple[pl.Series, pl.Series]:
    """Percentile ends of the mean over pairs of `values` `[pair, row]`; null at a single pair."""
    low, high = bootstrap_ratios(values.T, np.ones(values.T.shape), bootstrap)
    return pl.Series(low).fill_nan(None), pl.Series(high).fill_nan(None)


def _resampled_means(values: Floats, bootstrap: Bootstrap) -> Floats:
    """Means `[resample, row]` over the resamples of pairs that the intervals are made of."""
    means: Floats = times_drawn(len(values), bootstrap) @ values / len(values)
    return means
