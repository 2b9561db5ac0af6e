"""Columns of what `knockout_summary` returns; see there for units."""

from __future__ import annotations

import polars as pl

PolarsType = pl.DataType | type[pl.DataType]

LABEL_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "label": pl.String,
        "condition": pl.String,
        "measure": pl.String,
        "draws": pl.Int32,  # of a control; null elsewhere
        "features": pl.Float64,  # removed, mean over draws; null of `net`
        "n": pl.Int32,  # posts that the measure is a share of
        # Null without held-out posts; means over the draws of a control.
        "before": pl.Float64,  # null of `logit`
        "after": pl.Float64,  # null of `logit` and `net`
        "delta": pl.Float64,
        "low": pl.Float64,  # of `top` alone, over posts
        "high": pl.Float64,
        "minimum": pl.Float64,  # of a control alone, over draws
        "maximum": pl.Float64,
        "relative": pl.Float64,  # delta as a share of what was before; null where that is 0
    }
)

MEAN_OVER_LABELS: dict[str, PolarsType] = {
    "low": pl.Float64,  # over resampled labels; null of a single one
    "high": pl.Float64,
    "p": pl.Float64,  # flipping signs over labels
    # The mean where one label is left out: the least and the greatest, and without which label.
    "lowest": pl.Float64,
    "lowest_without": pl.String,
    "highest": pl.Float64,
    "highest_without": pl.String,
}

LAYER_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "condition": pl.String,
        "measure": pl.String,
        "labels": pl.Int32,  # those with held-out posts
        "without_features": pl.Int32,  # of them, those without a top feature
        "draws": pl.Int32,  # where low and high are the range of draws; null elsewhere
        "delta": pl.Float64,  # mean over labels
        **MEAN_OVER_LABELS,
    }
)

COMPARISON_KEYS: dict[str, PolarsType] = {
    "rule": pl.String,  # best: each model's best layer; equal: the same layer
    "condition": pl.String,
    "layer_first": pl.Int16,
    "layer_other": pl.Int16,
}

COMPARISON_SCHEMA = pl.Schema(
    {
        **COMPARISON_KEYS,
        "labels": pl.Int32,  # that both models have
        "difference": pl.Float64,  # of deltas, other minus first, mean over labels
        **MEAN_OVER_LABELS,
        "sign_flips": pl.Boolean,  # whether leaving out one label turns the sign
    }
)

LABEL_COMPARISON_SCHEMA = pl.Schema(
    {
        **COMPARISON_KEYS,
        "label": pl.String,
        "first": pl.Float64,  # delta
        "other": pl.Float64,
        "difference": pl.Float64,
    }
)
