"""Tables of the concepts study: accuracy, outcomes, probabilities, each with its interval.

The rows come from `patching.parquet` files (`rows.PATCHING_SCHEMA`), joined with the facts of their
checkpoint (`CHECKPOINT_FACTS`). Every table is a sum per checkpoint, so that a study with many
checkpoints can be tabulated file by file and stacked in sheet order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from glossogenesis.patching.scoring import OUTCOMES
from glossogenesis.statistics.intervals import Bootstrap, bootstrap_ratios, wilson_interval

IntervalMethod = Literal["wilson", "bootstrap"]

CHECKPOINT_FACTS = pl.Schema(
    {
        "model": pl.String,
        "checkpoint": pl.String,
        "step": pl.Int64,
        "tokens": pl.Int64,
        "phase": pl.Int32,
    }
)

_KEYS = (
    *CHECKPOINT_FACTS.names(),
    "setting",
    "input_language",
    "output_language",
    "start_layer",
)
_ORDER = "checkpoint_order"

# Probabilities are summed as whole numbers of this unit: a sum of whole numbers does not depend on
# the order of the addends, so equal runs give equal bytes on any number of threads. The unit is
# finer than the float32 of the rows, and sums over up to two million rows stay exact in float64.
_PROBABILITY_UNIT = 2.0**-32


def with_checkpoint(rows: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Put the facts of one checkpoint (a single row of `CHECKPOINT_FACTS`) in front of its rows."""
    if facts.height != 1:
        raise ValueError(f"{facts.height} rows of checkpoint facts; exactly one belongs here")
    return facts.cast(CHECKPOINT_FACTS).select(CHECKPOINT_FACTS.names()).join(rows, how="cross")


def accuracy_table(
    rows: pl.DataFrame, *, interval: IntervalMethod = "wilson", bootstrap: Bootstrap | None = None
) -> pl.DataFrame:
    """Accuracy per checkpoint, setting, language pair, start layer and subset, with its interval.

    Rows without an answer at their start layer do not count; a group without any answer has no row.
    Checkpoints keep the order in which they first appear in `rows`. The interval `wilson` takes
    answers as independent; `bootstrap` resamples expected concepts, and its ends are null where a
    group has a single one. `bootstrap` gives resamples, seed and confidence level, which `wilson`
    uses too.

    Columns: model, checkpoint, step, tokens, phase, setting, input_language, output_language,
    start_layer, subset (all, copyable, not_copyable), n, correct, accuracy, low, high.
    """
    scored = _ordered(rows).filter(pl.col("correct").is_not_null())
    by_subset = pl.concat(
        [
            scored.with_columns(subset=pl.lit("all")),
            scored.filter("copyable").with_columns(subset=pl.lit("copyable")),
            scored.filter(~pl.col("copyable")).with_columns(subset=pl.lit("not_copyable")),
        ]
    )
    keys = [*_KEYS, "subset"]
    table = _share(by_subset, keys, pl.col("correct"), interval, bootstrap or Bootstrap())
    return table.rename({"hits": "correct", "share": "accuracy"}).select(
        *keys, "n", "correct", "accuracy", "low", "high"
    )


def outcomes_table(
    rows: pl.DataFrame, *, interval: IntervalMethod = "wilson", bootstrap: Bootstrap | None = None
) -> pl.DataFrame:
    """Share of each outcome per checkpoint, setting, language pair and start layer.

    Every group has a row for each of `OUTCOMES`, also for those that never happened; the shares of
    a group add up to 1. Arguments as in `accuracy_table`.

    Columns: model, checkpoint, step, tokens, phase, setting, input_language, output_language,
    start_layer, outcome, n (answers of the group), count, share, low, high.
    """
    scored = _ordered(rows).filter(pl.col("outcome").is_not_null())
    kinds = pl.DataFrame({"outcome": OUTCOMES}, schema={"outcome": pl.Enum(OUTCOMES)})
    answers = scored.rename({"outcome": "given"}).join(kinds, how="cross")
    keys = [*_KEYS, "outcome"]
    hit = pl.col("given") == pl.col("outcome").cast(pl.String)
    table = _share(answers, keys, hit, interval, bootstrap or Bootstrap())
    return table.rename({"hits": "count"}).select(
        *(pl.col(key) for key in _KEYS),
        pl.col("outcome").cast(pl.String),
        "n",
        "count",
        "share",
        "low",
        "high",
    )


def probability_table(rows: pl.DataFrame, *, bootstrap: Bootstrap | None = None) -> pl.DataFrame:
    """Mean first-token probability of the source, target and expected concept.

    A concept's probability is the sum over the first tokens of its words in the output language
    (Dumas et al. 2025); the interval resamples expected concepts and is null where there is a
    single one. Rows without a probability do not count.

    Columns: model, checkpoint, step, tokens, phase, setting, input_language, output_language,
    start_layer, concept (expected, source, target), n, mean, low, high.
    """
    resampling = bootstrap or Bootstrap()
    kinds = ("expected", "source", "target")
    long = (
        _ordered(rows)
        .rename({f"log_p_{kind}": kind for kind in kinds})
        .unpivot(
            on=kinds,
            index=[_ORDER, *_KEYS, "expected_concept"],
            variable_name="concept",
            value_name="log_p",
        )
        .drop_nulls("log_p")
        .with_columns(
            value=(pl.col("log_p").cast(pl.Float64).exp() / _PROBABILITY_UNIT)
            .round()
            .cast(pl.Int64)
        )
    )
    keys = [*_KEYS, "concept"]
    groups = _per_group(long, keys, pl.col("value"))
    ends = [column * _PROBABILITY_UNIT for column in _resampled(groups, resampling)]
    return (
        groups.with_columns(
            mean=pl.col("total") / pl.col("n") * _PROBABILITY_UNIT, low=ends[0], high=ends[1]
        )
        .sort(_ORDER, *keys[len(CHECKPOINT_FACTS) :])
        .select(*keys, "n", "mean", "low", "high")
    )


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the place of their checkpoint in the order of first appearance."""
    order = rows.select("model", "checkpoint").unique(maintain_order=True).with_row_index(_ORDER)
    return rows.join(order, on=["model", "checkpoint"], how="left")


def _per_group(rows: pl.DataFrame, keys: Sequence[str], value: pl.Expr) -> pl.DataFrame:
    """Per group: n, total, and the lists `sums` and `counts`, one entry a concept."""
    groups = [_ORDER, *keys]
    return (
        rows.group_by(*groups, "expected_concept")
        .agg(sums=value.cast(pl.Int64).sum(), counts=pl.len().cast(pl.Int64))
        .sort(*groups, "expected_concept")
        .group_by(groups, maintain_order=True)
        .agg(n=pl.col("counts").sum(), total=pl.col("sums").sum(), sums="sums", counts="counts")
    )


def _share(
    rows: pl.DataFrame,
    keys: Sequence[str],
    hit: pl.Expr,
    interval: IntervalMethod,
    bootstrap: Bootstrap,
) -> pl.DataFrame:
    """`keys`, n, hits, share, low, high of each group, by checkpoint and then by the other keys."""
    groups = _per_group(rows, keys, hit)
    if interval == "bootstrap":
        low, high = _resampled(groups, bootstrap)
    elif groups.is_empty():
        low, high = (pl.Series(dtype=pl.Float64) for _ in range(2))
    else:
        ends = wilson_interval(
            groups["total"].to_numpy(), groups["n"].to_numpy(), confidence=bootstrap.confidence
        )
        low, high = (pl.Series(end) for end in ends)
    return (
        groups.with_columns(share=pl.col("total") / pl.col("n"), low=low, high=high)
        .rename({"total": "hits"})
        .sort(_ORDER, *keys[len(CHECKPOINT_FACTS) :])
    )


def _resampled(groups: pl.DataFrame, bootstrap: Bootstrap) -> tuple[pl.Series, pl.Series]:
    """Bootstrap ends of each row of `_per_group`; null where a row has a single concept."""
    ends = np.full((2, groups.height), np.nan)
    concepts = groups["sums"].list.len().to_numpy()
    for number in np.unique(concepts):
        chosen = np.flatnonzero(concepts == number)
        part = groups[chosen]
        sums = np.array(part["sums"].to_list(), dtype=np.float64)
        counts = np.array(part["counts"].to_list(), dtype=np.float64)
        ends[:, chosen] = bootstrap_ratios(sums, counts, bootstrap)
    low, high = (pl.Series(end).fill_nan(None) for end in ends)
    return low, high
