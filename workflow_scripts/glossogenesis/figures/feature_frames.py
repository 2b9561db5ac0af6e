"""The numbers behind the figures of features: rows of the tables, chosen and named alike.

Every frame has `CHECKPOINT_COLUMNS`, value, low and high; ends are null where a point has no
interval. Every function raises a StudyError where its table has no rows for the figure.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from glossogenesis.errors import StudyError
from glossogenesis.features.monosemanticity_tables import ALL
from glossogenesis.features.schemas import MIXED
from glossogenesis.figures.checkpoint_axis import CHECKPOINT_COLUMNS, even_places

MOST_LAYERS = 6
"""Layers that have a panel or a line of their own; a heat map shows all."""
MEASURES = ("mixed", "monosemanticity")


def rows_of_sae(table: pl.DataFrame, sae: str) -> pl.DataFrame:
    """Rows of one autoencoder; StudyError where there are none."""
    rows = table.filter(sae=sae)
    if rows.is_empty():
        known = ", ".join(table["sae"].unique().sort())
        raise StudyError(f"a table has no rows of autoencoder {sae!r}; it has {known or 'none'}")
    return rows


def shown_layers(table: pl.DataFrame, most: int = MOST_LAYERS) -> list[int]:
    """At most `most` (2 or more) layers of a table, evenly taken, first and last among them."""
    layers = table["layer"].drop_nulls().unique().sort().to_list()
    return [layers[place] for place in even_places(len(layers), most)]


def share_frame(languages: pl.DataFrame, codes: Sequence[str]) -> pl.DataFrame:
    """Share of each language and of mixed features per shown layer and checkpoint.

    `languages` is the table `features_languages` of one model and autoencoder; `codes` are the
    languages in the order of the study.

    Columns: layer, label, checkpoint, step, tokens, phase, features, labelled, value, low, high.
    """
    rows = _of_layers(languages).filter(pl.col("label").is_in([*codes, MIXED]))
    if rows["share"].is_null().all():
        raise StudyError(
            "features_languages: no feature has a language or is mixed; lower "
            "`features.language.minimum_examples`, or train on more tokens"
        )
    return _sorted(rows, [*codes, MIXED]).select(
        *("layer", "label", *CHECKPOINT_COLUMNS, "features", "labelled"),
        *(pl.col("share").alias("value"), "low", "high"),
    )


def monosemanticity_frame(monosemanticity: pl.DataFrame, codes: Sequence[str]) -> pl.DataFrame:
    """Mean monosemanticity of each label, and of all labelled features, per shown layer.

    `monosemanticity` is the table `features_monosemanticity` of one model and autoencoder; features
    whose examples are all one token are among them.

    Columns: layer, label, checkpoint, step, tokens, phase, features, single_type_share, value, low,
    high.
    """
    labels = [*codes, MIXED, ALL]
    rows = _of_layers(monosemanticity).filter(
        pl.col("subset") == "all", pl.col("label").is_in(labels)
    )
    if rows["mean"].is_null().all():
        raise StudyError(
            "features_monosemanticity: no feature has a monosemanticity; collect features from "
            "more tokens"
        )
    return _sorted(rows, labels).select(
        *("layer", "label", *CHECKPOINT_COLUMNS, "features", "single_type_share"),
        *(pl.col("mean").alias("value"), "low", "high"),
    )


def heat_frame(languages: pl.DataFrame, monosemanticity: pl.DataFrame) -> pl.DataFrame:
    """Mixed share and mean monosemanticity of every layer and checkpoint.

    Columns: measure (mixed, monosemanticity), layer, checkpoint, step, tokens, phase, features,
    value, low, high; `features` is the number that a value is over.
    """
    rows = _both_measures(languages, monosemanticity).filter(pl.col("layer").is_not_null())
    return rows.sort(_rank("measure", MEASURES), "layer", "step", maintain_order=True).select(
        "measure", "layer", *CHECKPOINT_COLUMNS, "features", "value", "low", "high"
    )


def size_frame(
    languages: pl.DataFrame, monosemanticity: pl.DataFrame, models: Sequence[str]
) -> pl.DataFrame:
    """Mixed share and mean monosemanticity of each model, pooled over its layers.

    Columns: measure, model, checkpoint, step, tokens, phase, features, value, low, high; models in
    the order of `models`.
    """
    rows = _both_measures(languages, monosemanticity).filter(pl.col("layer").is_null())
    rows = rows.filter(pl.col("model").is_in(models))
    if missing := [model for model in models if model not in set(rows["model"])]:
        raise StudyError(f"features_languages: no rows of model {missing[0]!r}; tabulate again")
    return rows.sort(
        _rank("measure", MEASURES), _rank("model", models), "step", maintain_order=True
    ).select("measure", "model", *CHECKPOINT_COLUMNS, "features", "value", "low", "high")


def _both_measures(languages: pl.DataFrame, monosemanticity: pl.DataFrame) -> pl.DataFrame:
    """The mixed share and the mean monosemanticity of all labelled features, stacked."""
    keys = ["model", *CHECKPOINT_COLUMNS, "layer"]
    mixed = languages.filter(label=MIXED).select(
        pl.lit("mixed").alias("measure"),
        *keys,
        pl.col("labelled").alias("features"),
        *(pl.col("share").alias("value"), "low", "high"),
    )
    means = monosemanticity.filter(label=ALL, subset="all").select(
        pl.lit("monosemanticity").alias("measure"),
        *keys,
        "features",
        *(pl.col("mean").alias("value"), "low", "high"),
    )
    if mixed.is_empty() or means.is_empty():
        raise StudyError(
            "features_languages and features_monosemanticity have no rows to draw; tabulate again"
        )
    return pl.concat([mixed, means])


def _of_layers(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("layer").is_in(shown_layers(table)))


def _sorted(rows: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    return rows.sort("layer", _rank("label", labels), "step", maintain_order=True)


def _rank(column: str, order: Sequence[str]) -> pl.Expr:
    """The place of `column` in `order`, to sort by."""
    places = {name: place for place, name in enumerate(order)}
    return pl.col(column).replace_strict(places, default=len(places), return_dtype=pl.Int32)
