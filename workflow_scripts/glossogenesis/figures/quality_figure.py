"""Figure of how good the autoencoders are over training, and the numbers behind it."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glossogenesis.errors import StudyError
from glossogenesis.features.frames import shown_layers
from glossogenesis.figures.checkpoint_axis import (
    CHECKPOINT_COLUMNS,
    draw_phases,
    draw_training_axis,
    positions,
    training_axis,
)
from glossogenesis.figures.feature_panels import draw_heading, layer_look
from glossogenesis.figures.panels import draw_line, handle, label_outer, legend_below
from glossogenesis.figures.style import PAGE_WIDTH, new_figure, paper_style

MEASURES = {
    "explained_variance": "explained variance",
    "recovered": "cross-entropy recovered",
    "l0": "latents per token (L0)",
    "dead_share": "share of dead latents",
}
_TO_ONE = ("explained_variance", "recovered")
_DRAWN = (-1.0, 1.5)
"""Lowest and highest of these; where a model has learnt little, a ratio can be anything."""

_ENDS = {"recovered": ("recovered_low", "recovered_high")}


def quality_frame(quality: pl.DataFrame) -> pl.DataFrame:
    """Every measure of the figure per shown layer and checkpoint, over all held-out tokens.

    `quality` is the table `features_quality` of one model and autoencoder. A measure that was not
    taken has no rows.

    Columns: measure, layer, checkpoint, step, tokens, phase, value, low, high; ends are null but
    for `recovered`, the only measure on a sample of sequences.
    """
    rows = quality.filter(pl.col("language") == "all", pl.col("layer").is_in(shown_layers(quality)))
    nothing = pl.lit(None, pl.Float64)
    parts = []
    for measure in MEASURES:
        low, high = (pl.col(end) for end in _ENDS[measure]) if measure in _ENDS else [nothing] * 2
        parts.append(
            rows.filter(pl.col(measure).is_not_null()).select(
                *(pl.lit(measure).alias("measure"), "layer", *CHECKPOINT_COLUMNS),
                *(pl.col(measure).alias("value"), low.alias("low"), high.alias("high")),
            )
        )
    frame = pl.concat([part.sort("layer", "step", maintain_order=True) for part in parts])
    if frame.is_empty():
        raise StudyError("features_quality: no measures to draw; tabulate again")
    return frame


def plot_sae_quality(data: pl.DataFrame, label: str) -> Figure:
    """Explained variance, recovery, L0 and dead share over training: a line a layer.

    `data` is a `quality_frame`. Explained variance and recovery below -1 or above 1.5 stand there.
    """
    measures = [measure for measure in MEASURES if measure in set(data["measure"])]
    layers = data["layer"].unique().sort().to_list()
    training = training_axis(data)
    with paper_style():
        down = math.ceil(len(measures) / 2)
        figure = new_figure(PAGE_WIDTH, 1.6 * down + 0.8)
        panels = list(figure.subplots(down, 2, sharex=True, squeeze=False).flat)
        for spare in panels[len(measures) :]:
            spare.remove()
        panels = panels[: len(measures)]
        for axes, measure in zip(panels, measures, strict=True):
            axes.set_title(MEASURES[measure])
            rows = _drawable(data.filter(measure=measure), measure)
            for place, layer in enumerate(layers):
                series = rows.filter(layer=layer)
                where = positions(series, training, place, len(layers))
                look, line = layer_look(place, len(layers))
                draw_line(axes, where, series, look, line, bands=len(layers))
            _limit(axes, measure, rows)
            draw_training_axis(axes, training)
            draw_phases(axes, training, label=axes is panels[0])
        label_outer(panels, "")
        handles = [
            handle(f"layer {layer}", *layer_look(place, len(layers)))
            for place, layer in enumerate(layers)
        ]
        legend_below(figure, handles)
        draw_heading(figure, label)
    return figure


def _drawable(rows: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Rows whose shares of a whole are drawn at `_DRAWN` where they lie beyond."""
    if measure not in _TO_ONE:
        return rows
    return rows.with_columns(pl.col("value", "low", "high").clip(*_DRAWN))


def _limit(axes: Axes, measure: str, rows: pl.DataFrame) -> None:
    """From 0, or below where a value is; shares of a whole to 1; room above to label phases."""
    ends = [rows[name].drop_nulls().to_numpy() for name in ("value", "low", "high")]
    found = np.concatenate(ends)
    lowest, most = min(0.0, float(found.min())), float(found.max())
    highest = max(1.0, most) if measure in _TO_ONE else max(0.1, most)
    room = 0.19 * (highest - lowest)
    axes.set_ylim(lowest - 0.03 * (highest - lowest), highest + room)
