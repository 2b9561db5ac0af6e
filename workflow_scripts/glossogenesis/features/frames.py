"""The numbers behind the figures of features: rows of the tables, chosen and named alike.

Every frame has `CHECKPOINT_COLUMNS`, value, low and high; ends are null where a point has no
interval. Every function raises a StudyError where its table has no rows for the figure.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.features.schemas import BILINGUAL, MIXED
from glossogenesis.features.tables import ALL
from glossogenesis.figures.panels import CHECKPOINT_COLUMNS, even_places
from glossogenesis.study.setups import DEPTH, EVERY_DEPTH, REGIONS

MOST_LAYERS = 6
"""Layers that have a panel or a line of their own; a heat map shows all."""
DEPTHS = (*REGIONS, EVERY_DEPTH)
LABELLED = "labelled"
"""Stands for the labelled share of the dictionary, beside what is a share of the labelled."""
MEASURES = (BILINGUAL, "monosemanticity", LABELLED)


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
    """Share of each language and of bilingual features per shown layer and checkpoint.

    `languages` is the table `features_languages` of one model and autoencoder; `codes` are the
    languages in the order of the study. Mixed features have rows where there are any. Rows with the
    label `labelled` have the share of the dictionary that is labelled.

    Columns: layer, label, checkpoint, step, tokens, phase, features, labelled, value, low, high.
    """
    labels = [*codes, BILINGUAL, *([MIXED] if _has_mixed(languages) else [])]
    rows = _of_layers(languages).filter(pl.col("label").is_in(labels))
    if rows["share"].is_null().all():
        raise StudyError(
            "features_languages: no feature is labelled; lower `features.language.examples`, or "
            "collect features from more tokens"
        )
    rows = pl.concat([rows, _labelled(rows.filter(label=BILINGUAL))])
    return _sorted(rows, [*labels, LABELLED]).select(
        *("layer", "label", *CHECKPOINT_COLUMNS, "features", "labelled"),
        *(pl.col("share").alias("value"), "low", "high"),
    )


def monosemanticity_frame(monosemanticity: pl.DataFrame, codes: Sequence[str]) -> pl.DataFrame:
    """Mean monosemanticity of each label, and of all labelled features, per shown layer.

    `monosemanticity` is the table `features_monosemanticity` of one model and autoencoder; features
    whose examples are all one token are among them. Rows with the label `labelled` have the share
    of the dictionary that all labelled features are.

    Columns: layer, label, checkpoint, step, tokens, phase, features, single_type_share, value, low,
    high.
    """
    labels = [*codes, BILINGUAL, ALL]
    rows = _of_layers(monosemanticity).filter(
        pl.col("subset") == "all", pl.col("label").is_in(labels)
    )
    if rows["mean"].is_null().all():
        raise StudyError(
            "features_monosemanticity: no feature has a monosemanticity; collect features from "
            "more tokens"
        )
    share = rows.filter(label=ALL).with_columns(
        label=pl.lit(LABELLED),
        mean=pl.col("of_dictionary"),
        **dict.fromkeys(("low", "high", "single_type_share"), pl.lit(None, pl.Float64)),
    )
    return _sorted(pl.concat([rows, share]), [*labels, LABELLED]).select(
        *("layer", "label", *CHECKPOINT_COLUMNS, "features", "single_type_share"),
        *(pl.col("mean").alias("value"), "low", "high"),
    )


def heat_frame(languages: pl.DataFrame, monosemanticity: pl.DataFrame) -> pl.DataFrame:
    """Bilingual share, mean monosemanticity and labelled share of every layer and checkpoint.

    Columns: measure (one of `MEASURES`), layer, checkpoint, step, tokens, phase, features,
    value, low, high; `features` is the number that a value is over.
    """
    rows = _measured(languages, monosemanticity).filter(pl.col("layer").is_not_null())
    return rows.sort(_rank("measure", MEASURES), "layer", "step", maintain_order=True).select(
        "measure", "layer", *CHECKPOINT_COLUMNS, "features", "value", "low", "high"
    )


def size_frame(
    languages: pl.DataFrame, monosemanticity: pl.DataFrame, models: Sequence[str]
) -> pl.DataFrame:
    """Bilingual share, mean monosemanticity and labelled share of each model, over all its layers.

    Columns: measure, model, checkpoint, step, tokens, phase, features, value, low, high; models in
    the order of `models`.
    """
    rows = _measured(languages, monosemanticity).filter(
        pl.col("layer").is_null(), pl.col(DEPTH) == EVERY_DEPTH, pl.col("model").is_in(models)
    )
    if missing := [model for model in models if model not in set(rows["model"])]:
        raise StudyError(f"features_languages: no rows of model {missing[0]!r}; tabulate again")
    return rows.sort(
        _rank("measure", MEASURES), _rank("model", models), "step", maintain_order=True
    ).select("measure", "model", *CHECKPOINT_COLUMNS, "features", "value", "low", "high")


def bilingual_frame(languages: pl.DataFrame) -> pl.DataFrame:
    """Share of bilingual features by third of the depth, over all layers, and by layer.

    `languages` is the table `features_languages` of one model and autoencoder.

    Columns: depth (early, middle, late, all), layer (null where pooled), checkpoint, step, tokens,
    phase, features, labelled, dictionary, labelled_share, value, low, high.
    """
    rows = languages.filter(label=BILINGUAL)
    if rows["share"].is_null().all():
        raise StudyError(
            "features_languages: no feature is labelled; lower `features.language.examples`, or "
            "collect features from more tokens"
        )
    return rows.sort(
        pl.col("layer").is_not_null(), "layer", _rank(DEPTH, DEPTHS), "step", maintain_order=True
    ).select(
        *(DEPTH, "layer", *CHECKPOINT_COLUMNS, "features", "labelled", "dictionary"),
        *("labelled_share", pl.col("share").alias("value"), "low", "high"),
    )


def _measured(languages: pl.DataFrame, monosemanticity: pl.DataFrame) -> pl.DataFrame:
    """Bilingual share, mean monosemanticity of the labelled and labelled share, stacked."""
    keys = ["model", *CHECKPOINT_COLUMNS, "layer", DEPTH]
    bilingual = languages.filter(label=BILINGUAL)
    means = monosemanticity.filter(label=ALL, subset="all")
    if bilingual.is_empty() or means.is_empty():
        raise StudyError(
            "features_languages and features_monosemanticity have no rows to draw; tabulate again"
        )
    parts = {
        BILINGUAL: bilingual.with_columns(features="labelled", value="share"),
        "monosemanticity": means.with_columns(value="mean"),
        LABELLED: _labelled(bilingual).with_columns(features="dictionary", value="share"),
    }
    return pl.concat(
        rows.select(pl.lit(measure).alias("measure"), *keys, "features", "value", "low", "high")
        for measure, rows in parts.items()
    )


def _labelled(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `features_languages` that say, as their share, what part of all is labelled."""
    return rows.with_columns(
        label=pl.lit(LABELLED),
        share=pl.col("labelled_share"),
        **dict.fromkeys(("low", "high"), pl.lit(None, pl.Float64)),
    )


def _has_mixed(languages: pl.DataFrame) -> bool:
    return bool(languages.filter(label=MIXED)["features"].sum())


def _of_layers(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("layer").is_in(shown_layers(table)))


def _sorted(rows: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    return rows.sort("layer", _rank("label", labels), "step", maintain_order=True)


def _rank(column: str, order: Sequence[str]) -> pl.Expr:
    """The place of `column` in `order`, to sort by."""
    places = {name: place for place, name in enumerate(order)}
    return pl.col(column).replace_strict(places, default=len(places), return_dtype=pl.Int32)
