"""Table of feature languages: the share of each label per setup, and pooled over layers.

The labels are the languages of the corpus, `mixed` (no language holds enough of the examples),
`unlabelled` (too few examples) and `dead` (never fired). Shares are of the labelled features, those
of a language or mixed, as in Inaba et al. 2025; so `unlabelled` and `dead` have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from glossogenesis.errors import StudyError
from glossogenesis.features.schemas import DEAD, NOT_LANGUAGES, UNLABELLED
from glossogenesis.features.setups import SETUP_FACTS, require_columns, schema_of_setups
from glossogenesis.features.shares import with_shares

LANGUAGES_SCHEMA = schema_of_setups(
    {
        "label": pl.String,
        "features": pl.Int64,
        "labelled": pl.Int64,
        "share": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
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
    """Share of each label with its 95 % Wilson interval, per setup and pooled over layers.

    `counts` has `SETUP_FACTS`, label and features. Rows pooled over the layers of a checkpoint
    follow those of its layers, with `layer` null; they are there for a single layer too. Features
    of a dictionary are taken as independent. `share`, `low` and `high` are null for `unlabelled`
    and `dead`, and where no feature is labelled.

    Columns: `LANGUAGES_SCHEMA`.
    """
    both = pl.concat([counts, over_layers(counts, ["label"], ["features"])])
    known = ~pl.col("label").is_in([UNLABELLED, DEAD])
    both = both.with_columns(
        labelled=pl.col("features").filter(known).sum().over(SETUP_FACTS.names()),
    )
    shares = with_shares(both, "features", "labelled", where=known)
    return in_order_of_setups(shares).select(LANGUAGES_SCHEMA.names())


def over_layers(counts: pl.DataFrame, by: Sequence[str], added: Sequence[str]) -> pl.DataFrame:
    """The columns `added`, added up over the layers of each setup and value of `by`; no layer."""
    keys = [name for name in SETUP_FACTS if name != "layer"]
    return (
        counts.group_by(*keys, *by, maintain_order=True)
        .agg(pl.col(added).sum())
        .with_columns(layer=pl.lit(None, pl.Int32))
        .select(*SETUP_FACTS.names(), *by, *added)
    )


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
