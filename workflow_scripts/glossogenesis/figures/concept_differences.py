"""The figure of paired differences of the concepts study: of settings, over training, by pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glossogenesis.concepts.figures import setting_look, setting_names
from glossogenesis.concepts.frames import layer_note
from glossogenesis.figures.checkpoint_axis import (
    CHECKPOINT_COLUMNS,
    even_places,
    short_number,
    training_axis,
)
from glossogenesis.figures.panels import handle, legend_below, note_above
from glossogenesis.figures.style import FAINT, INK, PAGE_WIDTH, Look, new_figure, paper_style

_SPREAD = 0.6
"""Share of a checkpoint's place that its series, side by side, take."""

_MOST_UPRIGHT = 14
"""Pairs whose names fit beside each other."""


def plot_differences(data: pl.DataFrame, pivot: str) -> Figure:
    """Points with whiskers: `seen` minus other settings, changes over training, `seen` by pair.

    `data` is a `difference_frame`. A filled marker survives the correction for many tests; panels
    without rows are left out.
    """
    names = {name: text.replace("patched: ", "") for name, text in setting_names(pivot).items()}
    panels = [name for name in ("settings", "training", "pairs") if name in set(data["panel"])]
    over_training = [name for name in panels if name != "pairs"]
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 2.3 + 1.7 * (len(over_training) > 0 and "pairs" in panels))
        rows = [over_training] * bool(over_training) + [["pairs"]] * ("pairs" in panels)
        mosaic: Any = [[name for name in row for _ in range(2 // len(row))] for row in rows]
        drawn = figure.subplot_mosaic(mosaic)
        for name, axes in drawn.items():
            part = data.filter(panel=name)
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0.5)
            if name == "pairs":
                _draw_pairs(axes, part)
            else:
                _draw_training(axes, part)
        titles = {
            "settings": "mean of seen pairs minus …",
            "training": "change since the checkpoint before",
            "pairs": "mean of seen pairs minus unpatched, source concept: last checkpoint, by pair",
        }
        for name, axes in drawn.items():
            axes.set_title(titles[name])
            axes.set_ylabel("difference of accuracies")
        shown = [name for name in names if name in {*data["series"], "seen"}]
        survival = [
            handle("survives correction", Look(INK, "o", filled=True), "none"),
            handle("does not", Look(INK, "o", filled=False), "none"),
        ]
        looks = [(names[name], setting_look(name)[0]) for name in shown]
        series = [
            handle(label, Look(look.colour, look.marker, filled=True), "none")
            for label, look in looks
        ]
        note_above(figure, layer_note(data))
        legend_below(figure, [*series, *survival])
    return figure


def _draw_training(axes: Axes, data: pl.DataFrame) -> None:
    """Series side by side at each checkpoint, which are evenly spaced."""
    stops = data.select(CHECKPOINT_COLUMNS).unique().sort("step")
    place_of = {checkpoint: place for place, checkpoint in enumerate(stops["checkpoint"])}
    series = data["series"].unique(maintain_order=True).to_list()
    for place, name in enumerate(series):
        rows = data.filter(series=name)
        shift = _SPREAD * ((place + 0.5) / len(series) - 0.5)
        x = [place_of[checkpoint] + shift for checkpoint in rows["checkpoint"]]
        _draw_points(axes, x, rows, setting_look(name)[0])
    training = training_axis(stops)
    shown = even_places(stops.height, 6)
    axes.set_xticks(shown, [short_number(stops[training.column][place]) for place in shown])
    axes.set_xlim(-0.6, stops.height - 0.4)
    axes.set_xlabel(training.label)
    phases = stops["phase"].to_list()
    for place in range(1, stops.height):
        if phases[place] != phases[place - 1]:
            axes.axvline(place - 0.5, color=INK, linewidth=0.8, linestyle=(0, (2, 1.5)), zorder=0.5)


def _draw_pairs(axes: Axes, data: pl.DataFrame) -> None:
    """A point a target pair."""
    _draw_points(axes, range(data.height), data, setting_look("seen")[0])
    labels = [pair.replace("→", " → ") for pair in data["series"]]
    upright = data.height <= _MOST_UPRIGHT
    axes.set_xticks(range(data.height), labels, rotation=0 if upright else 90)
    axes.set_xlim(-0.6, data.height - 0.4)


def _draw_points(axes: Axes, x: Sequence[float], rows: pl.DataFrame, look: Look) -> None:
    """Values with whiskers, filled where they survive; no whisker where there is no interval."""
    low, high = (rows[end].fill_null(float("nan")).to_numpy() for end in ("low", "high"))
    axes.vlines(x, low, high, color=look.colour, linewidth=0.9, zorder=2)
    for survives in (True, False):
        chosen = [place for place, row in enumerate(rows["survives"]) if bool(row) == survives]
        axes.plot(
            [x[place] for place in chosen],
            rows["value"].gather(chosen),
            linestyle="none",
            zorder=3,
            **Look(look.colour, look.marker, filled=survives).marker_options(),
        )
