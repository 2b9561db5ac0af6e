"""Table of comparisons: every difference between the first model and each other one, and runs.

Differences are other minus first. Every run of a model is compared with the run of the other that
has its seed, and the differences are put together: their error is the variance between runs of each
model, with that over posts, pairs, labels or concepts added (`statistics.clustered`). Of a
single run a model the latter is all that is known: the difference may be the run's, which the note
says.

p is two-sided; q corrects it for all tests of the table together, at a false discovery rate
(Benjamini and Hochberg 1995), and a difference survives where q is below 0.05. A row without a
difference says in its note why there is none.

A row over runs has no seed. Its value is the mean over runs, where a run with several seeds of its
autoencoders counts once, by their mean; its interval has the variance between runs in it
(`statistics.clustered`). A range, such as that over draws of a control, becomes the range over
all runs. Of a single run the row over runs is its own, and its interval says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, nan
from typing import Any

import numpy as np
import polars as pl

from glossogenesis.robustness.tables.classification import read_predictions
from glossogenesis.robustness.tables.compared import (
    Comparison,
    compare_circuits,
    compare_classifiers,
    compare_cues,
    compare_features,
    compare_knockouts,
    compare_variants,
)
from glossogenesis.robustness.tables.inputs import ComparedModel, Results, frame_of
from glossogenesis.statistics.clustered import (
    adjusted,
    difference_over_runs,
    mean_over_runs,
    variance_of_interval,
)
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.statistics.resampling import LEFT_OUT, OVER_DRAWS

LEVEL = 0.05
ONE_RUN = "one run a model: the difference may be the run's"
BY_RUNS = "t, variance between runs"

COMPARISONS_SCHEMA = pl.Schema(
    {
        "table": pl.String,
        "measure": pl.String,
        "detail": pl.String,
        "sae": pl.String,
        "rule": pl.String,
        "layer_first": pl.Int32,
        "layer_other": pl.Int32,
        "first": pl.String,
        "other": pl.String,
        "first_value": pl.Float64,
        "other_value": pl.Float64,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "interval": pl.String,
        "n": pl.Int64,
        "runs": pl.Int64,
        "lowest": pl.Float64,
        "lowest_without": pl.String,
        "highest": pl.Float64,
        "highest_without": pl.String,
        "test": pl.String,
        "p": pl.Float64,
        "q": pl.Float64,
        "survives": pl.Boolean,
        "note": pl.String,
    }
)

_NUMBERS = ("first_value", "other_value", "low", "high", "n")

OF_ONE_RUN = "{}, of one run"
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


def comparisons_table(
    results: Results,
    models: Sequence[ComparedModel],
    kinds: Mapping[str, str],
    threshold: float,
    bootstrap: Bootstrap,
    *,
    variants: bool,
) -> pl.DataFrame:
    """Rows of every other model in order; `COMPARISONS_SCHEMA`.

    `models` are all runs; `kinds` names the kind of every autoencoder; `threshold` is that of the
    circuits that are compared; `variants` says whether spelling variants were measured.
    """
    by_model: dict[str, list[ComparedModel]] = {}
    for run in models:
        by_model.setdefault(run.model, []).append(run)
    first, *others = by_model.values()
    rows = [
        row
        for other in others
        for row in compare_runs(
            results, first, other, kinds, threshold, bootstrap, variants=variants
        )
    ]
    return with_corrected(frame_of(rows, COMPARISONS_SCHEMA))


def compare_runs(
    results: Results,
    first: Sequence[ComparedModel],
    other: Sequence[ComparedModel],
    kinds: Mapping[str, str],
    threshold: float,
    bootstrap: Bootstrap,
    *,
    variants: bool,
) -> list[dict[str, Any]]:
    """Rows of all runs of one model and as many of another; arguments as of the table."""
    rows = []
    for runs in zip(first, other, strict=True):
        compared = _compared(results, *runs, list(kinds), threshold, bootstrap, variants)
        cells = {"first": runs[0].model, "other": runs[1].model, "run": runs[0].seed}
        rows += [cells | row | {"kind": kinds.get(row.get("sae", ""))} for row in compared]
    return over_runs(rows)


def over_runs(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the rows of all runs together, one of each thing that was compared.

    Each has `run`, the seed of its classifiers, and `kind`, the kind of its autoencoders, which are
    nested in runs: several seeds of them in one run count once, by their mean.
    """
    things: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        # Which layers are best, each run finds again.
        layers = () if row.get("rule") == "best" else (row.get("layer_first"),)
        names = ("table", "measure", "detail", "kind", "rule")
        things.setdefault((*map(row.get, names), *layers), []).append(row)
    return [_of_all_runs(found) for found in things.values()]


def _of_all_runs(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of one comparison, from those of its runs."""
    known = [row for row in found if isfinite(row.get("difference", nan))]
    shared = {
        name: value if all(row.get(name) == value for row in found) else None
        for name, value in found[0].items()
    } | {"sae": found[0]["kind"]}
    if not known:
        return shared | {"note": found[0].get("note")}
    if len(known) == 1:
        cells = "; ".join(filter(None, [known[0].get("note"), ONE_RUN]))
        return known[0] | {"sae": found[0]["kind"], "runs": 1, "note": cells}
    numbers = [{name: row[name] for name in _NUMBERS} | {"by": row["run"]} for row in known]
    table = pl.DataFrame(numbers)
    runs = table["by"].n_unique()
    if runs == 1:  # of one fine-tuning, seeds of its autoencoders are what varies
        table = table.with_columns(by=pl.int_range(pl.len()))
    means = table.group_by("by", maintain_order=True).agg(pl.all().mean())
    within = variance_of_interval(table["low"].to_numpy(), table["high"].to_numpy())
    items = round(float(str(table["n"].mean() or 1)))
    values = [means[name].to_numpy() for name in ("first_value", "other_value")]
    estimate = difference_over_runs(*values, within=within, items=items)
    missing = len(found) - len(known)
    notes = [
        shared.get("note"),
        ONE_RUN if runs == 1 else None,
        f"not defined in {missing} of {len(found)} runs" if missing else None,
    ]
    return shared | {
        "first_value": float(values[0].mean()),
        "other_value": float(values[1].mean()),
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": estimate.p,
        "n": items,
        "runs": runs,
        "interval": OVER_RUNS.format(str(known[0].get("interval")).removeprefix("95 % ")),
        "test": BY_RUNS,
        "note": "; ".join(filter(None, notes)) or None,
    }


def with_corrected(table: pl.DataFrame) -> pl.DataFrame:
    """Fill in q and whether a difference survives, over all tests of the table."""
    q = adjusted(table["p"].fill_null(float("nan")).to_numpy())
    corrected = table.with_columns(q=pl.Series(q, dtype=pl.Float64).fill_nan(None))
    silent = pl.col("difference").is_null() & pl.col("note").is_null()
    return corrected.with_columns(
        survives=pl.col("q") < LEVEL,
        note=pl.when(silent).then(pl.lit("not defined in one of the models")).otherwise("note"),
    ).select(COMPARISONS_SCHEMA.names())


def _compared(
    results: Results,
    first: ComparedModel,
    other: ComparedModel,
    saes: Sequence[str],
    threshold: float,
    bootstrap: Bootstrap,
    variants: bool,
) -> Iterator[dict[str, Any]]:
    """Rows of two models, without their names."""
    digests = [results.tokenizer_digest(model) for model in (first, other)]
    same = digests[0] == digests[1]
    both = [read_predictions(results, model) for model in (first, other)]
    for row in compare_classifiers(both[0], both[1], bootstrap):
        yield row | {"table": "classification"}
    for row in compare_circuits(results, first, other, threshold, bootstrap, same_tokenizer=same):
        yield row | {"table": "circuit"}
    for sae in saes:
        comparison = Comparison(results, first, other, sae, same, bootstrap)
        kinds = {
            "features": compare_features,
            "knockout": compare_knockouts,
            "cues": compare_cues,
            "variants": compare_variants,
        }
        for table, compare in kinds.items():
            if table != "variants" or variants:
                for row in compare(comparison):
                    yield row | {"table": table, "sae": sae}


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
        cells = dict(zip(before, key, strict=True))
        rows.append(cells | _over_runs(runs, str(cells["measure"])))
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
    cells = {
        name: _together(rows[name])
        for name in rows.columns[rows.columns.index("n") + 1 :]
        if name not in ("kind", "runs", "p", "q")
    }
    runs = known["seed"].n_unique()
    cells |= {"runs": runs, "n": _together(known["n"]), "value": known["value"].mean()}
    interval = next(iter(known["interval"].drop_nulls().to_list()), None)
    if known.height == 1:
        only = known.row(0, named=True)
        cells |= {name: only[name] for name in ("low", "high", "p") if name in only}
        return cells | {"interval": interval if interval in RANGES else _of_one_run(interval)}
    if interval in RANGES:
        return cells | {
            "low": known["low"].min(),
            "high": known["high"].max(),
            "interval": interval,
        }
    if not known.height:
        return cells
    # Seeds of autoencoders are nested in runs; where there is one run, they are what varies.
    by = "seed" if runs > 1 else "sae"
    values = known.group_by(by, maintain_order=True).agg(pl.col("value").mean())["value"]
    within = variance_of_interval(known["low"].to_numpy(), known["high"].to_numpy())
    found = mean_over_runs(values.to_numpy(), within=within, items=cells["n"] or 1)
    if found.low == found.high and interval is None:
        return cells
    ends = {"low": found.low, "high": found.high}
    bounds = (0, 1) if measure in _SHARES else (-100, 100) if measure in _POINTS else None
    if bounds is not None:
        ends = {name: float(np.clip(end, *bounds)) for name, end in ends.items()}
    cells |= ends | {"p": found.p}
    return cells | {"interval": OVER_RUNS.format((interval or "").removeprefix("95 % "))}


def _of_one_run(interval: str | None) -> str | None:
    return None if interval is None else OF_ONE_RUN.format(interval)


def _together(values: pl.Series) -> Any:
    """One value of several: their mean, or for words and flags what all share."""
    known = values.drop_nulls()
    if known.dtype.is_numeric():
        mean = known.cast(pl.Float64).mean()
        return mean if mean is None or known.dtype.is_float() else round(float(str(mean)))
    if known.dtype == pl.Boolean:
        return 2 * int(known.sum()) > known.len() if known.len() else None
    return known.first() if known.n_unique() == 1 else None
