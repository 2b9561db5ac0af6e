"""Table of cues: on how many tokens the top features of a label rest.

A value is the mean over the label's top features, each looked at where it is strongest; the
interval resamples those features. Rows of label `mean` are over labels, which are resampled. A few
tokens that make up most of a feature's strongest activations say that the label rests on few cues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.robustness.tables.inputs import (
    ComparedModel,
    Results,
    frame_of,
    layers_with_saes,
    table_schema,
)
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.statistics.resampling import BOOTSTRAP, mean_estimate

MEAN = "mean"
"""The label of rows over all labels."""

MEASURES = ("top_token_share", "unique_tokens", "top_surface_share", "unique_surfaces")
OF_TOKENS = ("top_token_share", "unique_tokens")
"""Measures by token ids, which models of other tokenizers do not share."""

MOST_SURFACES = 10
"""Surface forms that a row names."""

CUES = {
    "label": pl.String,
    "rank": pl.Int32,
    "feature": pl.Int32,
    "n": None,
    **dict.fromkeys(MEASURES),
    "surfaces": pl.List(pl.String),
    "counts": None,
}
CUES_SCHEMA = table_schema(
    {
        "layer": pl.Int32,
        "sae": pl.String,
        "label": pl.String,
        "measure": pl.String,
    },  # n is the number of features, or of labels in rows of all
    {
        "activations": pl.Int64,  # that were looked at, over all features
        "surfaces": pl.String,  # most frequent surface forms, with their number of activations
    },
)


def read_cues(results: Results, model: ComparedModel, layer: int, sae: str) -> pl.DataFrame:
    """The cues of one autoencoder: a row a label and feature, of the features that fire."""
    name = "post_features" / model.folder / f"layer_{layer}" / sae / "cues.parquet"
    return results.table(Path(name), CUES, model.model).filter(pl.col("n") > 0)


def cues_table(
    results: Results, models: Sequence[ComparedModel], saes: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of every autoencoder and label, then of all labels; `CUES_SCHEMA`."""
    rows = []
    for model, layer, sae in layers_with_saes(models, saes):
        facts = model.facts | {"layer": layer, "sae": sae}
        cues = read_cues(results, model, layer, sae)
        rows += [facts | row for row in _rows(cues, bootstrap)]
    return frame_of(rows, CUES_SCHEMA)


def label_means(cues: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Mean of a measure over the top features of each label: label, value; sorted by label."""
    means = cues.group_by("label").agg(value=pl.col(measure).cast(pl.Float64).mean())
    return means.sort("label")


def _rows(cues: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    rows = []
    for (label,), part in cues.sort("label", "rank").group_by("label", maintain_order=True):
        told = {"activations": int(part["n"].sum()), "surfaces": _frequent(part)}
        for measure in MEASURES:
            estimate = mean_estimate(part[measure].to_numpy(), bootstrap)
            rows.append(
                {"label": label, "measure": measure, **vars(estimate), "n": part.height}
                | {"interval": BOOTSTRAP.format("features"), **told}
            )
    for measure in MEASURES:
        means = label_means(cues, measure)
        estimate = mean_estimate(means["value"].to_numpy(), bootstrap)
        rows.append(
            {"label": MEAN, "measure": measure, **vars(estimate), "n": means.height}
            | {"interval": BOOTSTRAP.format("labels"), "activations": int(cues["n"].sum())}
        )
    return rows


def _frequent(part: pl.DataFrame) -> str:
    """Surface forms by the activations that they have in all features together, most first."""
    counted: Counter[str] = Counter()
    for surfaces, counts in part.select("surfaces", "counts").iter_rows():
        for surface, count in zip(surfaces, counts, strict=True):
            counted[surface] += count
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{surface} ({count})" for surface, count in ordered[:MOST_SURFACES])
