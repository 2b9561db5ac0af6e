"""Tables of the concepts study: accuracy, outcomes, probabilities, each with its interval.

The rows come from `patching.parquet` files (`rows.PATCHING_SCHEMA`), joined with the facts of their
checkpoint (`CHECKPOINT_FACTS`). Every table is a sum per checkpoint, so that a study with many
checkpoints can be tabulated file by file and stacked in sheet order.
"""

from __future__ import annotations

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
_SUBSETS = pl.Enum(["all", "copyable", "not_copyable"])
_OUTCOMES = pl.Enum(OUTCOMES)
_CONCEPTS = pl.Enum(["expected", "source", "target"])

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
    groups, answers = _numbered(rows.filter(pl.col("correct").is_not_null()))
    by = _counted_by(interval)
    counted = answers.group_by("group", "copyable", *by).agg(
        n=pl.len().cast(pl.Int64), hits=pl.col("correct").cast(pl.Int64).sum()
    )
    named = pl.when("copyable").then(pl.lit("copyable")).otherwise(pl.lit("not_copyable"))
    subsets = pl.concat(
        [counted.with_columns(subset=pl.lit("all")), counted.with_columns(subset=named)]
    )
    subsets = subsets.with_columns(pl.col("subset").cast(_SUBSETS))
    table = _shares(subsets, "subset", interval, bootstrap or Bootstrap())
    return _named(groups, table, "subset").select(
        *_KEYS, "subset", "n", correct="hits", accuracy="share", low="low", high="high"
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
    groups, answers = _numbered(rows.filter(pl.col("outcome").is_not_null()))
    by = _counted_by(interval)
    counted = (
        answers.group_by("group", *by)
        .agg(
            pl.len().cast(pl.Int64).alias("n"),
            *((pl.col("outcome") == name).cast(pl.Int64).sum().alias(name) for name in OUTCOMES),
        )
        .unpivot(on=OUTCOMES, index=["group", *by, "n"], variable_name="outcome", value_name="hits")
        .with_columns(pl.col("outcome").cast(_OUTCOMES))
    )
    table = _shares(counted, "outcome", interval, bootstrap or Bootstrap())
    return _named(groups, table, "outcome").select(
        *_KEYS, "outcome", "n", count="hits", share="share", low="low", high="high"
    )


def probability_table(rows: pl.DataFrame, *, bootstrap: Bootstrap | None = None) -> pl.DataFrame:
    """Mean first-token probability of the source, target and expected concept.

    A concept's probability is the sum over the first tokens of its words in the output language
    (Dumas et al. 2025); the interval resamples expected concepts and is null where there is a
    single one. Rows without a probability do not count.

    Columns: model, checkpoint, step, tokens, phase, setting, input_language, output_language,
    start_layer, concept (expected, source, target), n, mean, low, high.
    """
    groups, answers = _numbered(rows)
    parts = []
    for name in _CONCEPTS.categories:
        probability = pl.col(f"log_p_{name}").cast(pl.Float64).exp()
        whole = (probability / _PROBABILITY_UNIT).round().cast(pl.Int64)
        counted = answers.drop_nulls(f"log_p_{name}").group_by("group", "concept")
        parts.append(
            counted.agg(n=pl.len().cast(pl.Int64), hits=whole.sum()).with_columns(
                kind=pl.lit(name, _CONCEPTS)
            )
        )
    table = _shares(pl.concat(parts), "kind", "bootstrap", bootstrap or Bootstrap())
    unit = pl.lit(_PROBABILITY_UNIT)
    return _named(groups, table, "kind").select(
        *_KEYS,
        pl.col("kind").alias("concept"),
        "n",
        mean=pl.col("share") * unit,
        low=pl.col("low") * unit,
        high=pl.col("high") * unit,
    )


def _numbered(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The groups of a table, in its order, with their number; and the rows with that number.

    Rows also get the number of their expected concept: numbers are counted much faster than names.
    """
    order = rows.select("model", "checkpoint").unique(maintain_order=True).with_row_index("order")
    groups = (
        rows.select(_KEYS)
        .unique()
        .join(order, on=["model", "checkpoint"])
        .sort("order", *_KEYS[len(CHECKPOINT_FACTS) :])
        .drop("order")
        .with_row_index("group")
    )
    numbered = rows.join(groups, on=_KEYS, nulls_equal=True).with_columns(
        concept=pl.col("expected_concept").rank("dense")
    )
    return groups, numbered


def _named(groups: pl.DataFrame, table: pl.DataFrame, kind: str) -> pl.DataFrame:
    """`table` with the keys of its groups, in their order, then in that of the categories."""
    return table.join(groups, on="group").sort("group", kind).cast({kind: pl.String})


def _counted_by(interval: IntervalMethod) -> list[str]:
    """What answers are counted by beside their group: resampling needs each concept's own count."""
    return ["concept"] if interval == "bootstrap" else []


def _shares(
    counted: pl.DataFrame, kind: str, interval: IntervalMethod, bootstrap: Bootstrap
) -> pl.DataFrame:
    """Columns group, `kind`, n, hits, share, low and high.

    `counted` has group, `kind`, n, hits and, for the bootstrap, concept.
    """
    if interval == "bootstrap":
        table = (
            counted.group_by("group", kind, "concept")
            .agg(pl.col("n", "hits").sum())
            .sort("group", kind, "concept")
            .group_by("group", kind, maintain_order=True)
            .agg(pl.col("n", "hits").sum(), counts="n", sums="hits")
        )
        low, high = _resampled(table, bootstrap)
    else:
        table = counted.group_by("group", kind).agg(pl.col("n", "hits").sum())
        n, hits = (table[column].to_numpy() for column in ("n", "hits"))
        ends = wilson_interval(hits, n, confidence=bootstrap.confidence)
        low, high = (pl.Series(end, dtype=pl.Float64) for end in ends)
    return table.with_columns(share=pl.col("hits") / pl.col("n"), low=low, high=high)


def _resampled(table: pl.DataFrame, bootstrap: Bootstrap) -> tuple[pl.Series, pl.Series]:
    """Bootstrap ends of each row from its lists `sums` and `counts`, an entry a concept.

    Null where a row has a single concept.
    """
    ends = np.full((2, table.height), np.nan)
    concepts = table["sums"].list.len().to_numpy()
    for number in np.unique(concepts):
        chosen = np.flatnonzero(concepts == number)
        part = table[chosen]
        sums, counts = (
            part[column].explode().to_numpy().reshape(-1, number) for column in ("sums", "counts")
        )
        ends[:, chosen] = bootstrap_ratios(sums, counts, bootstrap)
    low, high = (pl.Series(end, dtype=pl.Float64).fill_nan(None) for end in ends)
    return low, high
