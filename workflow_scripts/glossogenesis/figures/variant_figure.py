"""Figure of how far spellings of one concept are read by different features, and its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from glossogenesis.errors import StudyError
from glossogenesis.figures.feature_panels import draw_heading
from glossogenesis.figures.panels import label_outer, legend_below
from glossogenesis.figures.style import LINE_STYLES, PAGE_WIDTH, Look, new_figure, paper_style
from glossogenesis.robustness.figures.frames import (
    counted,
    draw_whiskers,
    evenly,
    model_looks,
    of_models,
    with_l0,
)

ALL = "all"
"""The kinds of rows over all pairs of spellings."""

MOST_LAYERS = 6
ARMS = {"sentence": "a sentence of its own", "carrier": "one sentence for all"}
CONTROLS = {"chance": "_", "unrelated": "+"}
"""Columns of controls, and their markers."""

_COLUMNS = 3
_COLUMNS_OF_FRAME = (
    "layer", "model", "l0", "arm", "k", "n", "pairs", "chance", "unrelated", "value", "low", "high",
)  # fmt: skip
_FADED = 0.5


def variant_frame(
    variants: pl.DataFrame, features: pl.DataFrame, models: Mapping[str, str], sae: str
) -> pl.DataFrame:
    """Survival over all pairs of spellings, with its controls, by layer, arm and k.

    `variants` and `features` are the tables `robustness_variants` and `robustness_features`. At
    most `MOST_LAYERS` layers, evenly taken.

    Columns: layer, model, l0, arm, k, n (concepts), pairs, chance, unrelated, value, low, high.
    """
    rows = of_models(variants, models, sae=sae, kinds=ALL)
    if rows.is_empty():
        raise StudyError("robustness_variants: no concept has two spellings; nothing can be drawn")
    layers = evenly(rows["layer"].unique().sort().to_list(), MOST_LAYERS)
    places = {model: place for place, model in enumerate(models)}
    arms = {arm: place for place, arm in enumerate(ARMS)}
    frame = with_l0(rows.filter(pl.col("layer").is_in(layers)), features, sae)
    return frame.sort(
        "layer",
        pl.col("model").replace_strict(places),
        pl.col("arm").replace_strict(arms),
        "k",
    ).select(*_COLUMNS_OF_FRAME)


def plot_spelling_variants(data: pl.DataFrame, models: Mapping[str, str]) -> Figure:
    """Survival over k, a panel a layer, a line a model and arm; controls are faint.

    `data` is a `variant_frame`.
    """
    layers = data["layer"].unique().sort().to_list()
    ks = data["k"].unique().sort().to_list()
    arms = [arm for arm in ARMS if arm in set(data["arm"])]
    series = [(model, arm) for model in models for arm in arms]
    across = min(_COLUMNS, len(layers))
    down = math.ceil(len(layers) / across)
    with paper_style():
        figure = new_figure(PAGE_WIDTH * max(0.5, across / _COLUMNS), 1.8 * down + 0.9)
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for spare in grid.flat[len(layers) :]:
            spare.remove()
        panels = list(grid.flat[: len(layers)])
        for axes, layer in zip(panels, layers, strict=True):
            rows = data.filter(layer=layer)
            axes.set_title(f"layer {layer} ({_l0(rows, models)})")
            for place, (model, arm) in enumerate(series):
                part = rows.filter(model=model, arm=arm)
                shift = 0.07 * (place - (len(series) - 1) / 2)
                x = [ks.index(k) + shift for k in part["k"]]
                look, line = _look(models, model, arm)
                axes.plot(x, part["value"], linestyle=line, color=look.colour, zorder=2)
                draw_whiskers(axes, x, part, look)
                for control, marker in CONTROLS.items():
                    axes.plot(
                        x,
                        part[control],
                        linestyle=line if control == "unrelated" else "",
                        color=look.colour,
                        alpha=_FADED,
                        linewidth=0.7,
                        marker=marker,
                        zorder=1,
                    )
            axes.set_xticks(range(len(ks)), [str(k) for k in ks])
            axes.set_xlim(-0.4, len(ks) - 0.6)
            axes.set_ylim(-0.03, 1.03)
            axes.set_xlabel("strongest features compared (k)")
        label_outer(panels, "survival")
        legend_below(figure, _entries(models, arms))
        draw_heading(
            figure,
            "Survival: share of a spelling's features that another spelling of its concept lacks, "
            f"n = {counted(data)} concepts",
        )
    return figure


def _look(models: Mapping[str, str], model: str, arm: str) -> tuple[Look, Any]:
    """Colour and marker say the model; a filled marker and a solid line, its own sentence."""
    look = model_looks(models)[model]
    own = arm == next(iter(ARMS))
    return Look(look.colour, look.marker, filled=own), LINE_STYLES[0 if own else 1]


def _l0(rows: pl.DataFrame, models: Mapping[str, str]) -> str:
    """L0 of every model that has the layer."""
    found = dict(rows.select("model", "l0").unique().rows())
    shown = [f"{found[model]:.3g}" for model in models if found.get(model) is not None]
    return f"L0 {' and '.join(shown)}"


def _entries(models: Mapping[str, str], arms: list[str]) -> list[Line2D]:
    entries = []
    for model, label in models.items():
        for arm in arms:
            look, line = _look(models, model, arm)
            named = f"{label}: {ARMS[arm]}"
            entries.append(Line2D([], [], linestyle=line, label=named, **look.marker_options()))
    labels = {"chance": "random features", "unrelated": "spellings of different concepts"}
    faint: dict[str, Any] = {"color": "black", "alpha": _FADED, "linewidth": 0.7}
    controls = [
        Line2D([], [], marker=marker, label=labels[control], **faint)
        for control, marker in CONTROLS.items()
    ]
    return [*entries, *controls]
