"""Table of feature languages: the share of each label per setup, third of depth and pooled.

The labels are the languages of the corpus, `bilingual`, `mixed`, `symbol`, `unlabelled` and `dead`,
as `language` says. Shares are of the labelled features, those of a language, bilingual or mixed; so
the others have none. How many of the dictionary are labelled stands in every row, since shares of
differently chosen parts of a dictionary are not of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from glossogenesis.errors import StudyError
from glossogenesis.features.schemas import NOT_LANGUAGES, WITHOUT_SHARE
from glossogenesis.features.shares import with_shares
from glossogenesis.study.setups import (
    DEPTH,
    DEPTH_FACTS,
    EVERY_DEPTH,
    SETUP_FACTS,
    require_columns,
    schema_of_setups,
)

LANGUAGES_SCHEMA = schema_of_setups(
    {
        "label": pl.String,
        "features": pl.Int64,
        "labelled": pl.Int64,
        "dictionary": pl.Int64,
        "labelled_share": pl.Float64,
        "share": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    },
    DEPTH_FACTS,
)


def languages_in(statistics: pl.DataFrame, path: Path) -> list[str]:
    """The languages that features in a `statistics.parquet` may have, in the corpus' order."""
    require_columns(statistics, {"language": pl.String, "share_by_language": None}, path)
    dtype = statistics.schema["share_by_language"]
    if not isinstance(dtype, pl.Struct):
        raise StudyError(
            f"{path}: column share_by_language should be a struct of languages, is {dtype}; "
            "remove the file and run the workflow again"
        )
    return [entry.name for entry in dtype.fields]


def label_counts(statistics: pl.DataFrame, path: Path) -> pl.DataFrame:
    """How many features have each label, also those that none has; columns label, features.

    Raises:
        StudyError: a label is not a language of the corpus.

    """
    labels = [*languages_in(statistics, path), *NOT_LANGUAGES]
    counted = dict(statistics.group_by("language").len().iter_rows())
    if strange := sorted(set(counted) - set(labels), key=str):
        raise StudyError(
            f"{path}: a feature has the label {strange[0]!r}, which is none of "
            f"{', '.join(labels)}; remove the file and run the workflow again"
        )
    return pl.DataFrame(
        {"label": labels, "features": [counted.get(label, 0) for label in labels]},
        schema={"label": pl.String, "features": pl.Int64},
    )


def languages_table(counts: pl.DataFrame) -> pl.DataFrame:
    """Share of each label with its 95 % Wilson interval, by layer, third of depth and pooled.

    `counts` has `DEPTH_FACTS`, label and features. Rows pooled over the layers of a third, and over
    all layers, follow those of the layers, with `layer` null; they are there for a single layer
    too. Features of a dictionary are taken as independent. `share`, `low` and `high` are null for
    labels `WITHOUT_SHARE`, and where no feature is labelled.

    Columns: `LANGUAGES_SCHEMA`.
    """
    pooled = over_layers(counts, ["label"], ["features"])
    known = ~pl.col("label").is_in(WITHOUT_SHARE)
    of_setup = DEPTH_FACTS.names()
    every = pl.concat([counts, pooled]).with_columns(
        labelled=pl.col("features").filter(known).sum().over(of_setup),
        dictionary=pl.col("features").sum().over(of_setup),
    )
    shares = with_shares(every, "features", "labelled", where=known).with_columns(
        labelled_share=pl.col("labelled") / pl.col("dictionary")
    )
    return in_order_of_setups(shares).select(LANGUAGES_SCHEMA.names())


def over_layers(counts: pl.DataFrame, by: Sequence[str], added: Sequence[str]) -> pl.DataFrame:
    """The columns `added`, added up over the layers of each third and over all layers.

    Rows by checkpoint and value of `by`, first those of the thirds, then with the depth `all`.
    """
    keys = [name for name in SETUP_FACTS if name != "layer"]
    parts = []
    for rows in (
        counts.filter(pl.col(DEPTH).is_not_null()),
        counts.with_columns(pl.lit(EVERY_DEPTH).alias(DEPTH)),
    ):
        pooled = rows.group_by(*keys, DEPTH, *by, maintain_order=True).agg(pl.col(added).sum())
        parts.append(
            pooled.with_columns(layer=pl.lit(None, pl.Int32)).select(
                *DEPTH_FACTS.names(), *by, *added
            )
        )
    return pl.concat(parts)


def in_order_of_setups(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows by checkpoint and autoencoder as they first appear, then by layer, pooled ones last.

    Rows of one setup keep their order.
    """
    places = rows.select("model", "checkpoint", "sae").unique(maintain_order=True)
    return (
        rows.join(places.with_row_index("_place"), on=["model", "checkpoint", "sae"], how="left")
        .sort("_place", "layer", nulls_last=True, maintain_order=True)
        .drop("_place")
    )
