"""Shares over several language pairs, drawn together: what figures and claims over pairs rest on.

Pairs ask about the same concepts, so a concept is one draw with its answers in all pairs. The mean
of the pairs' own intervals would be too wide, and pairs taken as independent too narrow.
"""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from glossogenesis.concepts.scoring import OUTCOMES
from glossogenesis.concepts.tables import CHECKPOINT_FACTS, outcome_counts, share_rows

TRANSLATION = "translation"
KINDS = ("copying", "pivot", "no_pivot", "unseen")
POOLS = (TRANSLATION, *KINDS)
MEASURES = ("accuracy", *OUTCOMES)

PAIR = ("input_language", "output_language")


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

    Columns: model, checkpoint, step, tokens, phase, pool, output_language (null: all of the pool),
    setting, start_layer, chosen_layers, measure (accuracy, or an outcome), pairs, n, count, share,
    low, high.
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
        .select(
            *CHECKPOINT_FACTS.names(),
            "pool",
            *(pl.col("pooled_output").alias("output_language"), "setting"),
            *("start_layer", "chosen_layers", "measure", "pairs", "n"),
            *(pl.col("hits").alias("count"), "share", "low", "high"),
        )
    )
