"""Rows over the runs of a model: what tables and figures say of it, beside the rows of each run.

A row over runs has no seed. Its value is the mean over runs, where a run with several seeds of its
autoencoders counts once, by their mean; its interval has the variance between runs in it
(`statistics.between_runs`). A range, such as that over draws of a control, becomes the range over
all runs. Of a single run the row over runs is its own, and its interval says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from glossogenesis.robustness.tables.inputs import frame_of
from glossogenesis.statistics.between_runs import mean_over_runs, variance_of_interval
from glossogenesis.statistics.false_discovery import adjusted
from glossogenesis.statistics.resampling import LEFT_OUT, OVER_DRAWS

ONE_RUN = "{}, of one run"
OVER_RUNS = "95 % t over runs and {}"
RANGES = (OVER_DRAWS, LEFT_OUT)

_POINTS = frozenset(("delta", "accuracy_delta", "macro_f1_delta", "false_positives_delta"))
"""Measures between -100 and 100 points, likewise."""

_SHARES = frozenset(
    [
        "accuracy",
        "macro_f1",
        "recall",
        "recall_before",
        "recall_after",
        *(
            f"{name}_{when}"
            for name in ("accuracy", "macro_f1", "false_positives")
            for when in ("before", "after")
        ),
        "undefined_share",
        "explained_variance",
        "label_specific_share",
        "label_specific_share_counted",
        "top_ratio",
        "top_token_share",
        "top_surface_share",
        "survival",
    ]
)
"""Measures between 0 and 1, which ends of intervals are held to."""


def with_rows_over_runs(table: pl.DataFrame, kinds: Mapping[str, str]) -> pl.DataFrame:
    """Add rows over runs; rows of a run stay only where there are several.

    Rows without a model, such as facts of the posts, stay as they are. `kinds` maps the name in
    paths of every autoencoder to that of its kind, which rows over runs have in its place.
    """
    names = table.columns
    before = [name for name in names[: names.index("value")] if name != "seed"]
    if "sae" in names:
        table = table.with_columns(kind=pl.col("sae").replace(kinds))
    keys = ["kind" if name == "sae" else name for name in before]
    of_runs = table.filter(pl.col("seed").is_not_null())
    rows = []
    several = False
    for key, runs in of_runs.group_by(keys, maintain_order=True):
        told = dict(zip(before, key, strict=True))
        rows.append(told | _over_runs(runs, str(told["measure"])))
        several |= runs.height > 1
    summary = frame_of(rows, pl.Schema({name: table.schema[name] for name in names}))
    if "q" in names:
        p = summary["p"].fill_null(float("nan")).to_numpy()
        summary = summary.with_columns(q=pl.Series(adjusted(p), dtype=pl.Float64).fill_nan(None))
    parts = [table.filter(pl.col("seed").is_null()).select(names), summary]
    return pl.concat([*parts, of_runs.select(names)] if several else parts)


def _over_runs(rows: pl.DataFrame, measure: str) -> dict[str, Any]:
    """What is measured, over the rows of one thing in all runs."""
    known = rows.filter(pl.col("value").is_not_null())
    told = {
        name: _together(rows[name])
        for name in rows.columns[rows.columns.index("n") + 1 :]
        if name not in ("kind", "runs", "p", "q")
    }
    runs = known["seed"].n_unique()
    told |= {"runs": runs, "n": _together(known["n"]), "value": known["value"].mean()}
    interval = next(iter(known["interval"].drop_nulls().to_list()), None)
    if known.height == 1:
        only = known.row(0, named=True)
        told |= {name: only[name] for name in ("low", "high", "p") if name in only}
        return told | {"interval": interval if interval in RANGES else _of_one_run(interval)}
    if interval in RANGES:
        return told | {"low": known["low"].min(), "high": known["high"].max(), "interval": interval}
    if not known.height:
        return told
    # Seeds of autoencoders are nested in runs; where there is one run, they are what varies.
    by = "seed" if runs > 1 else "sae"
    values = known.group_by(by, maintain_order=True).agg(pl.col("value").mean())["value"]
    within = variance_of_interval(known["low"].to_numpy(), known["high"].to_numpy())
    found = mean_over_runs(values.to_numpy(), within=within, items=told["n"] or 1)
    if found.low == found.high and interval is None:
        return told
    ends = {"low": found.low, "high": found.high}
    bounds = (0, 1) if measure in _SHARES else (-100, 100) if measure in _POINTS else None
    if bounds is not None:
        ends = {name: float(np.clip(end, *bounds)) for name, end in ends.items()}
    told |= ends | {"p": found.p}
    return told | {"interval": OVER_RUNS.format((interval or "").removeprefix("95 % "))}


def _of_one_run(interval: str | None) -> str | None:
    return None if interval is None else ONE_RUN.format(interval)


def _together(values: pl.Series) -> Any:
    """One value of several: their mean, or for words and flags what all share."""
    known = values.drop_nulls()
    if known.dtype.is_numeric():
        mean = known.cast(pl.Float64).mean()
        return mean if mean is None or known.dtype.is_float() else round(float(str(mean)))
    if known.dtype == pl.Boolean:
        return 2 * int(known.sum()) > known.len() if known.len() else None
    return known.first() if known.n_unique() == 1 else None
