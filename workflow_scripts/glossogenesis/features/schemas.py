"""The columns of the tables of features.

Columns that have a value a language are structs whose fields are the languages of the corpus, in
its order, so that two of the schemas depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from glossogenesis.exceptions import StudyError

BILINGUAL, MIXED, SYMBOL, UNLABELLED, DEAD = "bilingual", "mixed", "symbol", "unlabelled", "dead"
NOT_LANGUAGES = (BILINGUAL, MIXED, SYMBOL, UNLABELLED, DEAD)
"""Labels of features that belong to no one language."""
WITHOUT_SHARE = (SYMBOL, UNLABELLED, DEAD)
"""Labels of features whose language cannot be asked for: no letters, too few examples, none."""

DEFAULT = "default"
"""Choice and value of the row of `sensitivity.parquet` in which nothing differs."""

_Type = pl.DataType | type[pl.DataType]

TOP_TOKEN = pl.Struct({"token_id": pl.Int32, "text": pl.String, "count": pl.Int64})

EXAMPLES_SCHEMA = pl.Schema(
    {
        "feature": pl.Int32,
        "example": pl.Int32,
        "context": pl.Int32,
        "column": pl.Int32,
        "document": pl.Int32,
        "token_id": pl.Int32,
        "token": pl.String,
        "token_language": pl.String,
        "activation": pl.Float32,
        "before": pl.String,
        "after": pl.String,
    }
)


def statistics_schema(languages: Sequence[str]) -> pl.Schema:
    """Columns of `statistics.parquet`, one row per feature."""
    by_language = _struct(check_languages(languages), pl.Float64)
    columns: dict[str, _Type] = {
        "feature": pl.Int32,
        "firings": pl.Int64,
        "firing_frequency": pl.Float64,
        "maximum": pl.Float32,
        "mean": pl.Float32,
        "encoder_maximum": pl.Float32,
        "firing_by_language": by_language,
        "examples": pl.Int32,
        "symbol_share": pl.Float64,
        "share_by_language": by_language,
        "language": pl.String,
        "token_types": pl.Int32,
        "token_entropy": pl.Float64,
        "meaning_entropy": pl.Float64,
        "monosemanticity": pl.Float64,
        "top_tokens": pl.List(TOP_TOKEN),
    }
    return pl.Schema(columns)


def sensitivity_schema(languages: Sequence[str]) -> pl.Schema:
    """Columns of `sensitivity.parquet`, one row an alternative.

    Means are over labelled features (of a language, bilingual or mixed), and null where there is
    none.
    """
    labels = [*check_languages(languages), BILINGUAL, MIXED]
    columns: dict[str, _Type] = {
        "choice": pl.String,
        "value": pl.String,
        "features_by_label": _struct([*languages, *NOT_LANGUAGES], pl.Int64),
        "labelled": pl.Int64,
        "monosemanticity": pl.Float64,
        "monosemanticity_by_label": _struct(labels, pl.Float64),
        "several_types": pl.Int64,
        "monosemanticity_several_types": pl.Float64,
    }
    return pl.Schema(columns)


def check_languages(languages: Sequence[str]) -> Sequence[str]:
    """Return the languages; StudyError where one is called like a label of features."""
    if taken := [language for language in languages if language in NOT_LANGUAGES]:
        raise StudyError(
            f"language {taken[0]!r} is called like a label of features; rename it in `languages`"
        )
    return languages


def _struct(names: Sequence[str], dtype: type[pl.DataType]) -> pl.DataType:
    return pl.Struct([pl.Field(name, dtype) for name in names])


def alive_features(statistics: pl.DataFrame, n_latents: int, path: Path) -> pl.DataFrame:
    """Rows of features that fire, in their order, of an autoencoder with `n_latents`.

    StudyError names `path` where the statistics are of another autoencoder.
    """
    ordered = statistics.sort("feature")
    if ordered["feature"].to_list() != list(range(n_latents)):
        raise StudyError(
            f"{path}: describes {statistics.height} features, but its autoencoder has {n_latents}; "
            "delete the file and rerun"
        )
    return ordered.filter(pl.col("firings") > 0)
