"""Table of circuits: effects of components, their sums and direct parts, sufficiency and necessity.

Effects are (z_patched - z_corrupted) / (z_clean - z_corrupted) of the clean post's label, averaged
over pairs; a pair whose denominator is too small counts as 0, and its share has a row. The set
`own` has the pairs that qualify for the model, `common` those that do for every model; no post is
in two pairs of a set, so pairs are resampled as independent. Sums and shares over the circuit are,
for each half of the pairs, over the circuit of the other half, the same in every resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from glossogenesis.features.robustness_tables.ablations import (
    ABLATIONS,
    ablation_rows,
)
from glossogenesis.features.robustness_tables.direct import direct_rows
from glossogenesis.models.anatomy import COMPONENTS
from glossogenesis.robustness.circuit import (
    CIRCUIT_SCHEMA,
    Members,
    cross_fitted,
    depth_thirds,
    effect_matrices,
    effect_sums,
)
from glossogenesis.robustness.tables.inputs import (
    ComparedModel,
    Results,
    frame_of,
    shortest_digits,
    table_schema,
)
from glossogenesis.statistics.intervals import Bootstrap, wilson_interval
from glossogenesis.statistics.resampling import (
    BOOTSTRAP,
    WILSON,
    Floats,
    interval_ends,
    ratios,
    resampled_counts,
)

BOTH = "both"
ALL = "all"
SETS = ("own", "common")

EFFECTS = {
    "set": pl.String,
    "pair": pl.Int32,
    "layer": pl.Int16,
    "component": pl.String,
    "effect": pl.Float32,
    "direct": pl.Float32,
    "direct_total": pl.Float32,
    "undefined": pl.Boolean,
}
CIRCUIT_TABLE_SCHEMA = table_schema(
    {
        "set": pl.String,
        "threshold": pl.Float64,  # null where nothing depends on it
        "measure": pl.String,
        "unit": pl.String,  # of sufficiency and necessity: relative, or points of accuracy
        "over": pl.String,  # what effects are summed over: the circuit, or all components
        "region": pl.String,  # early, middle, late third of the layers, or all
        "component": pl.String,  # attention, mlp, or both
        "layer": pl.Int32,
        "circuit": pl.String,  # what is tested: effect, random, all, none
        "method": pl.String,
        "positions": pl.String,
    },
    {
        "draws": pl.Int64,  # of random circuits
        "in_circuit": pl.Boolean,
        "membership": pl.Float64,  # share of resamples in which the effect reaches the threshold
        "note": pl.String,
    },
)
_PAIRS = BOOTSTRAP.format("pairs")
MEMBERS = "members in 97.5 % and in 2.5 % of resamples"


def circuit_results(
    results: Results, model: ComparedModel
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Effects of every pair, the circuits, and their ablations, of one model."""
    return (
        results.table("components" / model.folder / "effects.parquet", EFFECTS, model.model),
        results.table("circuits" / model.folder / "circuit.parquet", CIRCUIT_SCHEMA, model.model),
        results.table("circuits" / model.folder / "ablations.parquet", ABLATIONS, model.model),
    )


def circuit_table(
    results: Results,
    models: Sequence[ComparedModel],
    thresholds: Sequence[float],
    bootstrap: Bootstrap,
) -> pl.DataFrame:
    """Rows of every model, set and threshold; `CIRCUIT_TABLE_SCHEMA`."""
    rows = []
    for model in models:
        effects, circuit, ablations = circuit_results(results, model)
        found = [
            *_pair_rows(effects),
            *_sum_rows(effects, thresholds, bootstrap),
            *_effect_rows(circuit, effects),
            *direct_rows(effects, thresholds, bootstrap),
            *ablation_rows(ablations, bootstrap),
        ]
        rows += [model.facts | row for row in found]
    return frame_of(rows, CIRCUIT_TABLE_SCHEMA)


def members_of(means: Floats, over: str, threshold: float) -> Members:
    """What is summed over: `all` components, or those whose mean effect reaches the threshold."""
    members: Members = np.ones(means.shape, dtype=bool) if over == ALL else means >= threshold
    return members


def part_sum(means: Floats, members: Members, region: str = ALL, component: str = BOTH) -> Floats:
    """Sum of the mean effects of some members: [...].

    `means` and `members` are [..., layer, component]; `region` is `all` or one of the thirds of the
    layers, `component` `both` or one of `COMPONENTS`.
    """
    n_layers = means.shape[-2]
    chosen = np.zeros((n_layers, len(COMPONENTS)), dtype=bool)
    layers = range(n_layers) if region == ALL else depth_thirds(n_layers)[region]
    kinds = range(len(COMPONENTS)) if component == BOTH else [COMPONENTS.index(component)]
    chosen[np.ix_(list(layers), list(kinds))] = True
    sums: Floats = np.where(members & chosen, means, 0).sum(axis=(-2, -1))
    return sums


def _pair_rows(effects: pl.DataFrame) -> list[dict[str, Any]]:
    """How many pairs there are, and the share whose effect is undefined."""
    rows = []
    for name in SETS:
        pairs = effects.filter(set=name).group_by("pair").agg(pl.col("undefined").any())
        n = pairs.height
        note = None if n else "no pair qualifies: effects and circuit are not defined"
        rows.append({"set": name, "measure": "pairs", "value": n, "n": n, "note": note})
        if n:
            undefined = int(pairs["undefined"].sum())
            low, high = wilson_interval(undefined, n)
            rows.append(
                {"set": name, "measure": "undefined_share", "value": undefined / n, "n": n}
                | {"low": float(low), "high": float(high), "interval": WILSON}
            )
    return rows


def _sum_rows(
    effects: pl.DataFrame, thresholds: Sequence[float], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Sizes of circuits, sums of effects and shares of each third and kind of component.

    What is summed over all components does not depend on the threshold, and is told once.
    """
    rows = []
    n_layers = effects["layer"].n_unique()
    matrices = {name: matrix for name, matrix in effect_matrices(effects).items() if len(matrix)}
    for place, threshold in enumerate(thresholds):
        sums = effect_sums(effects, n_layers, threshold, bootstrap)
        for name, matrix in matrices.items():
            n = len(matrix)
            means, drawn = _resampled_means(matrix, bootstrap)
            own = {"set": name, "n": n, "interval": _PAIRS if len(drawn) else None}
            rows.append(own | _size(means, drawn, threshold) | {"threshold": threshold})
            _, of_circuit = _resampled_means(cross_fitted(matrix, threshold), bootstrap)
            for row in sums.filter(set=name).iter_rows(named=True):
                if row["over"] == ALL and place:
                    continue
                part = {key: row[key] for key in ("over", "region", "component")}
                told = own | part | {"threshold": None if row["over"] == ALL else threshold}
                total = {"value": row["total"], "low": row["low"], "high": row["high"]}
                rows.append(told | {"measure": "effect_sum", **total})
                if (row["region"], row["component"]) != (ALL, BOTH):
                    summed = drawn if row["over"] == ALL else of_circuit
                    everything = np.ones(means.shape, dtype=bool)
                    of_part = part_sum(summed, everything, row["region"], row["component"])
                    share = _ends(ratios(of_part, part_sum(summed, everything)), bootstrap, n)
                    rows.append(told | share | {"measure": "effect_share", "value": row["share"]})
    return rows


def _size(means: Floats, drawn: Floats, threshold: float) -> dict[str, Any]:
    """How many components are in the circuit: at least those that hardly any resample leaves out.

    At most those that more than a few take in. Resampled sizes would lie above the size: a
    component that is just out is taken in as often as one that is just in is left out, and of the
    former there are more.
    """
    size = int((means >= threshold).sum())
    told = {"measure": "circuit_size", "value": size}
    if not len(drawn):
        return told
    membership = (drawn >= threshold).mean(axis=0)
    low = min(size, int((membership >= 0.975).sum()))
    high = max(size, int((membership > 0.025).sum()))
    return told | {"low": low, "high": high, "interval": MEMBERS}


def _resampled_means(matrix: Floats, bootstrap: Bootstrap) -> tuple[Floats, Floats]:
    """Mean effects [layer, component], and those of resamples of the pairs [resample, ...].

    There are no resamples of a single pair.
    """
    pairs, *shape = matrix.shape
    if pairs < 2:
        return matrix.mean(axis=0), np.empty((0, *shape))
    times = resampled_counts(np.ones(pairs), bootstrap)
    drawn = times @ matrix.reshape(pairs, -1) / pairs
    return matrix.mean(axis=0), drawn.reshape(-1, *shape)


def _ends(drawn: Floats, bootstrap: Bootstrap, pairs: int) -> dict[str, Any]:
    low, high = interval_ends(drawn, bootstrap, pairs)
    return {"low": low, "high": high}


def _effect_rows(circuit: pl.DataFrame, effects: pl.DataFrame) -> list[dict[str, Any]]:
    """The mean effect of every component, and whether it is in the circuit."""
    pairs = effects.group_by("set").agg(n=pl.col("pair").n_unique())
    named = circuit.join(pairs, on="set", how="left", maintain_order="left").with_columns(
        threshold=shortest_digits("threshold"),
        measure=pl.lit("component_effect"),
        interval=pl.when(pl.col("low").is_not_null()).then(pl.lit(_PAIRS)),
    )
    return named.rename({"effect": "value"}).to_dicts()
