"""Table of monosemanticity: mean per label and setup, with a bootstrap interval over features.

Every feature is measured with the same number of examples, since few tokens cannot show many
meanings; those that have fewer are not measured.

Monosemanticity is 1 - H_semantic / H_token of a feature's activating tokens. It is 1 by definition
where all of them are one token, so every mean comes twice: over `all` features and over those with
`several_types` of tokens.

A dictionary has tens of thousands of features. They are resampled as a histogram with bins of 0.01,
each bin standing for the mean of its features: the mean is exact, and the variance within bins that
the interval leaves out is below 1e-5. So a setup is a small frame, and layers pool by adding up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from glossogenesis.errors import StudyError
from glossogenesis.features.language_tables import in_order_of_setups, languages_in
from glossogenesis.features.schemas import BILINGUAL, MIXED, SYMBOL, WITHOUT_SHARE
from glossogenesis.statistics.intervals import Bootstrap, tails
from glossogenesis.study.setups import (
    DEPTH,
    DEPTH_FACTS,
    EVERY_DEPTH,
    require_columns,
    schema_of_setups,
)

ALL = "all"
SUBSETS = ("all", "several_types")
BINS = 101
"""Bins of 0.01 from 0, and one for exactly 1."""

MONOSEMANTICITY_SCHEMA = schema_of_setups(
    {
        "label": pl.String,
        "subset": pl.String,
        "features": pl.Int64,
        "of_dictionary": pl.Float64,
        "mean": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "single_type_share": pl.Float64,
    },
    DEPTH_FACTS,
)
HISTOGRAM_SCHEMA = pl.Schema(
    {
        **pl.Schema({"label": pl.String, "subset": pl.String}),
        **pl.Schema({"dictionary": pl.Int64, "singles": pl.Int64}),
        **pl.Schema({"counts": pl.List(pl.Int64), "sums": pl.List(pl.Float64)}),
    }
)


def monosemanticity_histogram(statistics: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Features of each label and subset by bins of monosemanticity: number and sum of each bin.

    The label `all` stands for the labelled features, those of a language, bilingual or mixed;
    features with too few examples have no monosemanticity and do not count.

    Columns: `HISTOGRAM_SCHEMA`; `singles` counts the features with a single type of token.

    Raises:
        StudyError: a monosemanticity is not between 0 and 1.

    """
    codes = languages_in(statistics, path)
    require_columns(statistics, {"monosemanticity": pl.Float64, "token_types": None}, path)
    measured = statistics.filter(pl.col("monosemanticity").is_not_null())
    values = measured["monosemanticity"].to_numpy()
    if values.size and not bool(np.all((values > -1e-6) & (values < 1 + 1e-6))):
        raise StudyError(
            f"{path}: a monosemanticity is not between 0 and 1; remove the file and run the "
            "workflow again"
        )
    labels = measured["language"].to_numpy()
    single = (measured["token_types"] <= 1).to_numpy()
    rows = []
    for label in (*codes, BILINGUAL, MIXED, ALL, SYMBOL):
        wanted = ~np.isin(labels, WITHOUT_SHARE) if label == ALL else labels == label
        for subset in SUBSETS:
            chosen = wanted if subset == "all" else wanted & ~single
            counts, sums = _binned(values[chosen])
            singles = int(single[chosen].sum())
            rows.append([label, subset, statistics.height, singles, counts, sums])
    return pl.DataFrame(rows, HISTOGRAM_SCHEMA, orient="row")


def monosemanticity_table(histograms: pl.DataFrame, bootstrap: Bootstrap) -> pl.DataFrame:
    """Mean monosemanticity with its bootstrap interval, by layer, third of depth and pooled.

    `histograms` has `DEPTH_FACTS` and `HISTOGRAM_SCHEMA`. Rows pooled over layers have `layer`
    null. Features are taken as independent; an interval is null where there are fewer than two.
    Every row is resampled with the same seed, so that a further setup changes no other.

    Columns: `MONOSEMANTICITY_SCHEMA`; `single_type_share` is that of the features of the row.
    """
    rows = in_order_of_setups(pl.concat([histograms, _pooled(histograms)]))
    entries = []
    for row in rows.iter_rows(named=True):
        counts, sums = np.asarray(row["counts"], np.int64), np.asarray(row["sums"], np.float64)
        number = int(counts.sum())
        low, high = _interval(counts, sums, bootstrap)
        entries.append(
            {name: row[name] for name in (*DEPTH_FACTS, "label", "subset")}
            | {"features": number, "of_dictionary": number / row["dictionary"]}
            | {"low": low, "high": high}
            | {"mean": float(sums.sum()) / number if number else None}
            | {"single_type_share": row["singles"] / number if number else None}
        )
    return pl.DataFrame(entries, MONOSEMANTICITY_SCHEMA)


def _binned(values: np.ndarray) -> tuple[list[int], list[float]]:
    """Number and sum of values in each bin."""
    clipped = np.clip(values, 0.0, 1.0)
    places = np.floor(clipped * (BINS - 1)).astype(np.int64)
    counts = np.bincount(places, minlength=BINS)
    sums = np.bincount(places, weights=clipped, minlength=BINS)
    return counts.tolist(), sums.tolist()


def _pooled(histograms: pl.DataFrame) -> pl.DataFrame:
    """Histograms added up over the layers of each third of the depth, and over all layers."""
    keys = [*(name for name in DEPTH_FACTS if name != "layer"), "label", "subset"]
    thirds = histograms.filter(pl.col(DEPTH).is_not_null())
    rows = []
    for scope in (thirds, histograms.with_columns(pl.lit(EVERY_DEPTH).alias(DEPTH))):
        for key, part in scope.group_by(*keys, maintain_order=True):
            totals = {name: int(part[name].sum()) for name in ("dictionary", "singles")}
            lists = {n: np.sum(part[n].to_list(), axis=0).tolist() for n in ("counts", "sums")}
            rows.append(dict(zip(keys, key, strict=True)) | {"layer": None} | totals | lists)
    return pl.DataFrame(rows, histograms.schema)


def _interval(
    counts: np.ndarray, sums: np.ndarray, bootstrap: Bootstrap
) -> tuple[float | None, float | None]:
    """Percentile interval of the mean over resampled features; None where there is at most one."""
    number = int(counts.sum())
    if number < 2:
        return None, None
    filled = counts > 0
    generator = np.random.default_rng(bootstrap.seed)
    draws = generator.multinomial(number, counts[filled] / number, size=bootstrap.resamples)
    means = draws @ (sums[filled] / counts[filled]) / number
    low, high = np.quantile(means, tails(number, bootstrap.confidence))
    return float(low), float(high)
