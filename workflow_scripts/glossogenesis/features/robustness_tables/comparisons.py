"""Table of comparisons: every difference between the first model and each other one, tested.

Differences are other minus first. p is two-sided; q corrects it for all tests of the table
together, at a false discovery rate (Benjamini and Hochberg 1995), and a difference survives where
q is below 0.05. A row without a difference says in its note why there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from glossogenesis.features.robustness_tables.classification import read_predictions
from glossogenesis.features.robustness_tables.compared_circuits import (
    compare_circuits,
    compare_classifiers,
)
from glossogenesis.features.robustness_tables.compared_features import (
    Comparison,
    compare_cues,
    compare_features,
    compare_knockouts,
    compare_variants,
)
from glossogenesis.features.robustness_tables.inputs import ComparedModel, Results, frame_of
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.statistics.permutation import adjusted

LEVEL = 0.05

COMPARISONS_SCHEMA = pl.Schema(
    {
        "table": pl.String,  # which of the other tables the measure is from
        "measure": pl.String,
        "detail": pl.String,
        "sae": pl.String,
        "rule": pl.String,  # how layers were chosen: equal, or the best of each model
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
        "n": pl.Int64,  # of what the interval is over; the smaller number of two samples
        "lowest": pl.Float64,  # difference with one label left out, least and greatest
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


def comparisons_table(
    results: Results,
    models: Sequence[ComparedModel],
    saes: Sequence[str],
    threshold: float,
    bootstrap: Bootstrap,
    *,
    variants: bool,
) -> pl.DataFrame:
    """Rows of every other model in order; `COMPARISONS_SCHEMA`.

    `threshold` is that of the circuits that are compared; `variants` says whether spelling variants
    were measured.
    """
    first, *others = models
    rows: list[dict[str, Any]] = []
    for other in others:
        names = {"first": first.model, "other": other.model}
        found = _compared(results, first, other, saes, threshold, bootstrap, variants)
        rows += [names | row for row in found]
    return with_corrected(frame_of(rows, COMPARISONS_SCHEMA))


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
    predictions = read_predictions(results, (first, other))
    both = (predictions[first.model], predictions[other.model])
    for row in compare_classifiers(*both, bootstrap):
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
