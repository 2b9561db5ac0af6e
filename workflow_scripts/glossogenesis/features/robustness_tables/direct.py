"""Rows of the circuit's table on direct logit attribution: which part of effects is direct.

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
from glossogenesis.robustness.circuit import Members, effect_matrices
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.statistics.resampling import BOOTSTRAP, Floats, mean_estimate, ratio_estimate

Row = dict[str, Any]


def direct_rows(
    effects: pl.DataFrame, thresholds: Sequence[float], bootstrap: Bootstrap
) -> Iterator[Row]:
    """Direct effects of components, their sums, and their share in effects, of every set.

    Shares are those of a circuit's components, and of sums: an effect near 0 has no parts.
    """
    direct = effect_matrices(effects, "direct")
    totals = effect_matrices(effects, "direct_total")
    for name, matrix in effect_matrices(effects).items():
        told = {"set": name, "n": len(matrix)}
        means = matrix.mean(axis=0)
        for (layer, component), mean in np.ndenumerate(means):
            of_component = told | {"layer": layer, "component": COMPONENTS[component]}
            values = direct[name][:, layer, component]
            yield of_component | _mean("component_direct", values, bootstrap)
            if mean >= thresholds[0]:
                share = _share(values, matrix[:, layer, component], bootstrap)
                known = {"measure": "component_direct_share", "threshold": thresholds[0]}
                yield of_component | known | share
        whole = told | {"region": "all", "component": "both"}
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
        yield told | _mean("direct_total", totals[name][:, 0, 0], bootstrap)


def _mean(measure: str, values: Floats, bootstrap: Bootstrap) -> Row:
    interval = BOOTSTRAP.format("pairs")
    return {"measure": measure, **vars(mean_estimate(values, bootstrap)), "interval": interval}


def _share(direct: Floats, whole: Floats, bootstrap: Bootstrap) -> Row:
    """Mean of direct effects over mean of effects, both [pair]."""
    interval = BOOTSTRAP.format("pairs")
    return {**vars(ratio_estimate(direct, whole, bootstrap)), "interval": interval}
