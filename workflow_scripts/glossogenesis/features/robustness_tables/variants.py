"""Table of spelling variants: how far what reads one spelling does not depend on another.

The survival of spelling b without a, of ordered pairs within a concept, is the share of b's k
strongest features that are not a's; `chance` is what random features would give, and `unrelated`
what spellings of other concepts give in the place of a. Values are means over the pairs of a
concept, then over concepts, which are resampled for the interval; pairs whose second spelling makes
no feature fire do not count. Where fewer than k features fire on a spelling, all of them are
compared, and the row says in how many pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from glossogenesis.robustness.tables.inputs import ComparedModel, Results, frame_of, table_schema
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.statistics.resampling import BOOTSTRAP, mean_estimate

ALL = "all"
"""The kinds of rows over all pairs."""

SURVIVAL = {
    "layer": pl.Int16,
    "arm": pl.String,
    "k": pl.Int32,
    "concept": pl.String,
    "first_kind": pl.String,
    "second_kind": pl.String,
    "survival": pl.Float64,
    "chance": pl.Float64,
    "unrelated": pl.Float64,
    "first_features": pl.Int32,
    "second_features": pl.Int32,
}
VARIANTS_SCHEMA = table_schema(
    {
        "layer": pl.Int32,
        "sae": pl.String,
        "arm": pl.String,  # sentence: each spelling's own; carrier: one for all
        "k": pl.Int32,
        "kinds": pl.String,  # all, or the kinds of the two spellings: kanji → kana
        "measure": pl.String,
    },  # n is the number of concepts
    {
        "chance": pl.Float64,
        "unrelated": pl.Float64,  # of spellings of different concepts
        "pairs": pl.Int64,
        "fewer": pl.Int64,  # pairs in which a spelling has fewer than k features
        "note": pl.String,
    },
)
FEWER = "some spellings have fewer than {} features, all of which are compared: see `fewer`"
_KEYS = ("layer", "arm", "k")


def read_variants(results: Results, model: ComparedModel, sae: str) -> pl.DataFrame:
    """Survival of every pair of spellings in the autoencoders of one model, where it is defined."""
    name = "spelling_variants" / model.folder / f"{sae}.parquet"
    return results.table(name, SURVIVAL, model.model).drop_nulls("survival")


def variants_table(
    results: Results, models: Sequence[ComparedModel], saes: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of every layer, arm and k, over all pairs and by their kinds; `VARIANTS_SCHEMA`."""
    rows = []
    for model in models:
        for sae in saes:
            pairs = read_variants(results, model, sae)
            kinds = pl.concat_str("first_kind", pl.lit(" → "), "second_kind")
            both = pl.concat(
                [pairs.with_columns(kinds=pl.lit(ALL)), pairs.with_columns(kinds=kinds)]
            )
            rows += [model.facts | {"sae": sae} | row for row in _rows(both, bootstrap)]
    return frame_of(rows, VARIANTS_SCHEMA)


def concept_means(pairs: pl.DataFrame) -> pl.DataFrame:
    """Mean over the pairs of each concept, by concept; columns as in `SURVIVAL`, and pairs."""
    values = pl.col("survival", "chance", "unrelated").mean()
    means = pairs.group_by("concept").agg(values, pairs=pl.len())
    return means.sort("concept")


def _rows(pairs: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    rows = []
    order = (pl.col("kinds") != ALL, "kinds")
    groups = pairs.sort("layer", pl.col("arm") != "sentence", "arm", "k", *order, "concept")
    for keys, part in groups.group_by(*_KEYS, "kinds", maintain_order=True):
        means = concept_means(part)
        estimate = mean_estimate(means["survival"].to_numpy(), bootstrap)
        rows.append(
            {**dict(zip((*_KEYS, "kinds"), keys, strict=True)), "measure": "survival"}
            | {**vars(estimate), "n": means.height, "interval": BOOTSTRAP.format("concepts")}
            | {name: means[name].mean() for name in ("chance", "unrelated")}
            | {"pairs": part.height, **_fewer(part)}
        )
    return rows


def _fewer(pairs: pl.DataFrame) -> dict[str, Any]:
    """In how many pairs a spelling has fewer than k features."""
    least = pl.min_horizontal("first_features", "second_features")
    short = pairs.filter(least < pl.col("k"))
    if not short.height:
        return {"fewer": 0}
    return {"fewer": short.height, "note": FEWER.format(pairs["k"][0])}
