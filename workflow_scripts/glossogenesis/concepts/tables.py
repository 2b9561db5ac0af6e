"""Tables of the concepts study: accuracy, outcomes, probabilities, each with its interval.

The rows come from `patching.parquet` files (`rows.PATCHING_SCHEMA`), joined with the facts of their
checkpoint (`CHECKPOINT_FACTS`). Every table is a sum per checkpoint, so that a study with many
checkpoints can be tabulated file by file and stacked in sheet order.

A concept is expected by several items, whose answers resemble each other: every interval takes the
expected concept as what was drawn.

Pairs ask about the same concepts, so a concept is one draw with its answers in all pairs. The mean
of the pairs' own intervals would be too wide, and pairs taken as independent too narrow.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl

from glossogenesis.concepts.scoring import OUTCOMES
from glossogenesis.statistics.clustered import ClusterSums, clustered_share_interval
from glossogenesis.statistics.intervals import Bootstrap, bootstrap_ratios
from glossogenesis.study.setups import CHECKPOINT_FACTS, schema_of_setups

ANSWER_FACTS = schema_of_setups(
    {
        "setting": pl.String,
        "input_language": pl.String,
        "output_language": pl.String,
        "start_layer": pl.Int32,
        "chosen_layers": pl.String,
    },
    CHECKPOINT_FACTS,
)
"""Columns that say which group of answers a row is of."""
_KEYS = tuple(ANSWER_FACTS)
_ENDS = {"low": pl.Float64, "high": pl.Float64}
_COUNTED = {"n": pl.Int64, "count": pl.Int64, "share": pl.Float64, **_ENDS}

ACCURACY_SCHEMA = schema_of_setups(
    {"subset": pl.String, "n": pl.Int64, "correct": pl.Int64, "accuracy": pl.Float64, **_ENDS},
    ANSWER_FACTS,
)
OUTCOMES_SCHEMA = schema_of_setups({"outcome": pl.String, **_COUNTED}, ANSWER_FACTS)
PROBABILITY_SCHEMA = schema_of_setups(
    {"concept": pl.String, "n": pl.Int64, "mean": pl.Float64, **_ENDS}, ANSWER_FACTS
)
POOLED_SCHEMA = schema_of_setups(
    {
        "pool": pl.String,
        "output_language": pl.String,
        "setting": pl.String,
        "start_layer": pl.Int32,
        "chosen_layers": pl.String,
        "measure": pl.String,
        "pairs": pl.Int64,
        **_COUNTED,
    },
    CHECKPOINT_FACTS,
)

_SUBSETS = pl.Enum(["all", "copyable", "not_copyable"])
_OUTCOMES = pl.Enum(OUTCOMES)
_CONCEPTS = pl.Enum(["expected", "source", "target"])

# Probabilities are summed as whole numbers of this unit: a sum of whole numbers does not depend on
# the order of the addends, so equal runs give equal bytes on any number of threads. The unit is
# finer than the float32 of the rows, and sums over up to two million rows stay exact in float64.
_PROBABILITY_UNIT = 2.0**-32

TRANSLATION = "translation"
KINDS = ("copying", "pivot", "no_pivot", "unseen")
POOLS = (TRANSLATION, *KINDS)
MEASURES = ("accuracy", *OUTCOMES)

PAIR = ("input_language", "output_language")


def accuracy_table(rows: pl.DataFrame) -> pl.DataFrame:
    """Accuracy per checkpoint, setting, language pair, start layer and subset, with its interval.

    Rows without an answer at their start layer do not count; a group without any answer has no row.
    Checkpoints keep the order in which they first appear in `rows`. The ends are null where a group
    has a single expected concept. Columns: `ACCURACY_SCHEMA`.
    """
    groups, answers = _numbered(rows.filter(pl.col("correct").is_not_null()))
    counted = answers.group_by("group", "copyable", "concept").agg(
        n=pl.len().cast(pl.Int64), hits=pl.col("correct").cast(pl.Int64).sum()
    )
    named = pl.when("copyable").then(pl.lit("copyable")).otherwise(pl.lit("not_copyable"))
    subsets = pl.concat(
        [counted.with_columns(subset=pl.lit("all")), counted.with_columns(subset=named)]
    )
    subsets = subsets.with_columns(pl.col("subset").cast(_SUBSETS))
    table = _named(groups, share_rows(subsets, "group", "subset"), "subset")
    return table.rename({"hits": "correct", "share": "accuracy"}).select(*ACCURACY_SCHEMA)


def outcomes_table(rows: pl.DataFrame) -> pl.DataFrame:
    """Share of each outcome per checkpoint, setting, language pair and start layer.

    Every group has a row for each of `OUTCOMES`, also for those that never happened; the shares of
    a group add up to 1. Rows as in `accuracy_table`. Columns: `OUTCOMES_SCHEMA`.
    """
    groups, answers = _numbered(rows.filter(pl.col("outcome").is_not_null()))
    counted = (
        answers.group_by("group", "concept")
        .agg(pl.len().cast(pl.Int64).alias("n"), *outcome_counts())
        .unpivot(
            on=OUTCOMES,
            index=["group", "concept", "n"],
            variable_name="outcome",
            value_name="hits",
        )
        .with_columns(pl.col("outcome").cast(_OUTCOMES))
    )
    table = _named(groups, share_rows(counted, "group", "outcome"), "outcome")
    return table.rename({"hits": "count"}).select(*OUTCOMES_SCHEMA)


def outcome_counts() -> list[pl.Expr]:
    """How many answers of a group have each of `OUTCOMES`, a column each."""
    return [(pl.col("outcome") == name).cast(pl.Int64).sum().alias(name) for name in OUTCOMES]


def share_rows(counted: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Columns `keys`, n, hits, share, low and high: shares with the interval of drawn concepts.

    `counted` has `keys`, concept, n and hits; a concept may have several rows, such as one a
    language pair, and is drawn with all of them. Ends are null with a single concept.
    """
    table = (
        counted.group_by(*keys, "concept")
        .agg(pl.col("n", "hits").sum())
        .group_by(*keys)
        .agg(
            pl.col("n", "hits").sum(),
            clusters=pl.len(),
            squares=(pl.col("hits") ** 2).sum(),
            products=(pl.col("hits") * pl.col("n")).sum(),
            n_squares=(pl.col("n") ** 2).sum(),
        )
    )
    summed = ("clusters", "hits", "n", "squares", "products", "n_squares")
    sums = ClusterSums(*(table[name].to_numpy().astype(np.float64) for name in summed))
    low, high = (
        pl.Series(end, dtype=pl.Float64).fill_nan(None) for end in clustered_share_interval(sums)
    )
    return table.select(*keys, "n", "hits", share=pl.col("hits") / pl.col("n"), low=low, high=high)


def probability_table(rows: pl.DataFrame, *, bootstrap: Bootstrap | None = None) -> pl.DataFrame:
    """Mean first-token probability of the source, target and expected concept.

    A concept's probability is the sum over the first tokens of its words in the output language
    (Dumas et al. 2025); the interval resamples expected concepts and is null where there is a
    single one. Rows without a probability do not count. Columns: `PROBABILITY_SCHEMA`.
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
    table = _resampled(pl.concat(parts), "kind", bootstrap or Bootstrap())
    means = _named(groups, table, "kind").rename({"kind": "concept", "share": "mean"})
    return means.select(*PROBABILITY_SCHEMA).with_columns(
        pl.col("mean", *_ENDS) * pl.lit(_PROBABILITY_UNIT)
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


def _resampled(counted: pl.DataFrame, kind: str, bootstrap: Bootstrap) -> pl.DataFrame:
    """Columns group, `kind`, n, hits, share, low and high, with ends over resampled concepts.

    `counted` has group, `kind`, concept, n and hits. Ends are null where a row has a single
    concept.
    """
    table = (
        counted.sort("group", kind, "concept")
        .group_by("group", kind, maintain_order=True)
        .agg(pl.col("n", "hits").sum(), counts="n", sums="hits")
    )
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
    return table.with_columns(share=pl.col("hits") / pl.col("n"), low=low, high=high)


def pools_of(rows: pl.DataFrame, pivot: str, unseen: Collection[str]) -> pl.DataFrame:
    """Which pools the rows of each setting and language pair belong to; a pair may be in several.

    - `translation`, all settings: pairs of two different languages; those that were patched, where
      any was, and without languages that pretraining never saw, where others are left. Copying is
      another task and would blur a pooled share, as would a language that was never seen.
    - Of `tgt_unpatched`, all pairs by kind: `copying` (one language twice), `unseen` (a language of
      the pair was not in pretraining), `pivot` (pairs with the pivot language), `no_pivot`; each
      for all output languages together (null) and for each alone.

    Columns: setting, input_language, output_language, pool, pooled_output.
    """
    sides = [pl.col(side) for side in PAIR]
    kind = (
        pl.when(sides[0] == sides[1])
        .then(pl.lit("copying"))
        .when(pl.any_horizontal(side.is_in(sorted(unseen)) for side in sides))
        .then(pl.lit("unseen"))
        .when(pl.any_horizontal(side == pivot for side in sides))
        .then(pl.lit("pivot"))
        .otherwise(pl.lit("no_pivot"))
    )
    found = rows.select("setting", *PAIR).unique().with_columns(kind=kind)
    nowhere = pl.lit(None, pl.String)
    apart = found.filter(pl.col("kind") != "copying")
    patched = apart.filter(~pl.col("setting").str.ends_with("unpatched"))
    narrower = [
        patched.filter(pl.col("kind") != "unseen"),
        patched,
        apart.filter(pl.col("kind") != "unseen"),
        apart,
    ]
    pairs = next((part for part in narrower if part.height), apart).select(PAIR).unique()
    unpatched = found.filter(setting="tgt_unpatched")
    return pl.concat(
        part.select("setting", *PAIR, pool=pool, pooled_output=output)
        for part, pool, output in (
            (apart.join(pairs, on=PAIR, how="semi"), pl.lit(TRANSLATION), nowhere),
            (unpatched, pl.col("kind"), nowhere),
            (unpatched, pl.col("kind"), pl.col("output_language")),
        )
    )


def pooled_table(rows: pl.DataFrame, pivot: str, unseen: Collection[str]) -> pl.DataFrame:
    """Accuracy and share of each outcome per checkpoint, pool, setting and start layer.

    `rows` are those of one checkpoint, as in `accuracy_table`; pools are those of `pools_of`.
    Columns: `POOLED_SCHEMA`.
    """
    keys = (*CHECKPOINT_FACTS.names(), "setting", "start_layer", "chosen_layers")
    counted = (
        rows.filter(pl.col("correct").is_not_null())
        .group_by(*keys, *PAIR, pl.col("expected_concept").alias("concept"))
        .agg(
            pl.len().cast(pl.Int64).alias("n"),
            pl.col("correct").cast(pl.Int64).sum().alias("accuracy"),
            *outcome_counts(),
        )
        .join(pools_of(rows, pivot, unseen), on=["setting", *PAIR])
    )
    grouped = (*keys, "pool", "pooled_output")
    pairs = counted.group_by(grouped).agg(pairs=pl.struct(PAIR).n_unique().cast(pl.Int64))
    measured = (
        counted.unpivot(
            on=MEASURES,
            index=[*grouped, "concept", "n"],
            variable_name="measure",
            value_name="hits",
        )
        .with_columns(pl.col("measure").cast(pl.Enum(MEASURES)))
        .with_columns(pl.col("pool").cast(pl.Enum(POOLS)))
    )
    return (
        share_rows(measured, *grouped, "measure")
        .join(pairs.with_columns(pl.col("pool").cast(pl.Enum(POOLS))), on=grouped, nulls_equal=True)
        .sort("pool", "pooled_output", "setting", "start_layer", "chosen_layers", "measure")
        .cast({"pool": pl.String, "measure": pl.String})
        .rename({"pooled_output": "output_language", "hits": "count"})
        .select(*POOLED_SCHEMA)
    )
