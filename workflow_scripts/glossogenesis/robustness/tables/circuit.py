"""Table of circuits: effects of components, their sums and direct parts, sufficiency and necessity.

Effects are (z_patched - z_corrupted) / (z_clean - z_corrupted) of the clean post's label, averaged
over pairs; a pair whose denominator is too small counts as 0, and its share has a row. The set
`own` has the pairs that qualify for the model, `common` those that do for every model; no post is
in two pairs of a set, so pairs are resampled as independent. Sums and shares over the circuit are,
for each half of the pairs, over the circuit of the other half, the same in every resample.

Sufficiency: accuracy with everything but the circuit ablated; relative, divided by that of the
whole classifier; in points, how much it differs from it (below 0: lost). Necessity: accuracy that
is lost when the circuit is ablated; relative, divided by that of the whole; in points. Intervals
resample posts, with what the whole and the ablated classifier make of each. Random circuits have
one row: the mean over draws, and their range.

A component's effect on the logit is its direct part, which goes past all later blocks, and what
later components make of it. Parts are ratios of means over pairs, numerator and denominator
resampled together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from glossogenesis.models.anatomy import COMPONENTS
from glossogenesis.robustness.circuit import (
    CIRCUIT_SCHEMA,
    Members,
    cross_fitted,
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
    OVER_DRAWS,
    WILSON,
    Floats,
    counts_estimate,
    interval_ends,
    mean_estimate,
    ratio_estimate,
    ratios,
    resampled_counts,
)
from glossogenesis.study.setups import depth_thirds

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
        "threshold": pl.Float64,
        "measure": pl.String,
        "unit": pl.String,
        "over": pl.String,
        "region": pl.String,
        "component": pl.String,
        "layer": pl.Int32,
        "circuit": pl.String,
        "method": pl.String,
        "positions": pl.String,
    },
    {
        "draws": pl.Int64,
        "in_circuit": pl.Boolean,
        "membership": pl.Float64,
        "note": pl.String,
    },
)
_PAIRS = BOOTSTRAP.format("pairs")
MEMBERS = "members in 97.5 % and in 2.5 % of resamples"

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

Row = dict[str, Any]


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

    What is summed over all components does not depend on the threshold, and is reported once.
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
                cells = own | part | {"threshold": None if row["over"] == ALL else threshold}
                total = {"value": row["total"], "low": row["low"], "high": row["high"]}
                rows.append(cells | {"measure": "effect_sum", **total})
                if (row["region"], row["component"]) != (ALL, BOTH):
                    summed = drawn if row["over"] == ALL else of_circuit
                    everything = np.ones(means.shape, dtype=bool)
                    of_part = part_sum(summed, everything, row["region"], row["component"])
                    share = _ends(ratios(of_part, part_sum(summed, everything)), bootstrap, n)
                    rows.append(cells | share | {"measure": "effect_share", "value": row["share"]})
    return rows


def _size(means: Floats, drawn: Floats, threshold: float) -> dict[str, Any]:
    """How many components are in the circuit: at least those that hardly any resample leaves out.

    At most those that more than a few take in. Resampled sizes would lie above the size: a
    component that is just out is taken in as often as one that is just in is left out, and of the
    former there are more.
    """
    size = int((means >= threshold).sum())
    cells = {"measure": "circuit_size", "value": size}
    if not len(drawn):
        return cells
    membership = (drawn >= threshold).mean(axis=0)
    low = min(size, int((membership >= 0.975).sum()))
    high = max(size, int((membership > 0.025).sum()))
    return cells | {"low": low, "high": high, "interval": MEMBERS}


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


def ablation_rows(ablations: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Two rows, relative and in points, of every ablation of every circuit."""
    rows = []
    named = ablations.with_columns(threshold=shortest_digits("threshold"))
    for keys, draws in named.group_by(KEYS, maintain_order=True):
        cells = dict(zip(KEYS, keys, strict=True)) | {"n": draws["n"][0]}
        for unit in UNITS:
            found = cells | {"unit": unit}
            if cells["circuit"] == RANDOM:
                rows.append(found | _over_draws(draws, str(cells["measure"]), unit))
            else:
                rows.append(found | _of_posts(draws, str(cells["measure"]), unit, bootstrap))
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


def direct_rows(
    effects: pl.DataFrame, thresholds: Sequence[float], bootstrap: Bootstrap
) -> Iterator[Row]:
    """Direct effects of components, their sums, and their share in effects, of every set.

    Shares are those of a circuit's components, and of sums: an effect near 0 has no parts.
    """
    direct = effect_matrices(effects, "direct")
    totals = effect_matrices(effects, "direct_total")
    for name, matrix in effect_matrices(effects).items():
        cells = {"set": name, "n": len(matrix)}
        means = matrix.mean(axis=0)
        for (layer, component), mean in np.ndenumerate(means):
            of_component = cells | {"layer": layer, "component": COMPONENTS[component]}
            values = direct[name][:, layer, component]
            yield of_component | _mean("component_direct", values, bootstrap)
            if mean >= thresholds[0]:
                share = _share(values, matrix[:, layer, component], bootstrap)
                known = {"measure": "component_direct_share", "threshold": thresholds[0]}
                yield of_component | known | share
        whole = cells | {"region": "all", "component": "both"}
        chosen: list[tuple[str, float | None, Members]] = [
            ("all", None, np.ones_like(means, dtype=bool))
        ]
        chosen += [("circuit", threshold, means >= threshold) for threshold in thresholds]
        for over, threshold, members in chosen:
            summed = whole | {"over": over, "threshold": threshold}
            values = direct[name][:, members].sum(axis=1)
            yield summed | _mean("direct_sum", values, bootstrap)
            share = _share(values, matrix[:, members].sum(axis=1), bootstrap)
            yield summed | {"measure": "direct_share"} | share
        yield cells | _mean("direct_total", totals[name][:, 0, 0], bootstrap)


def _mean(measure: str, values: Floats, bootstrap: Bootstrap) -> Row:
    interval = BOOTSTRAP.format("pairs")
    return {"measure": measure, **vars(mean_estimate(values, bootstrap)), "interval": interval}


def _share(direct: Floats, whole: Floats, bootstrap: Bootstrap) -> Row:
    """Mean of direct effects over mean of effects, both [pair]."""
    interval = BOOTSTRAP.format("pairs")
    return {**vars(ratio_estimate(direct, whole, bootstrap)), "interval": interval}
