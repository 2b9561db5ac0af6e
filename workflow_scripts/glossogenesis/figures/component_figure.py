"""Figure of the effects of a classifier's components, and the numbers behind it."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from glossogenesis.figures.feature_panels import draw_heading
from glossogenesis.figures.panels import legend_below
from glossogenesis.figures.style import (
    FAINT,
    INK,
    PAGE_WIDTH,
    PALETTE,
    Look,
    new_figure,
    paper_style,
)
from glossogenesis.models.anatomy import COMPONENTS
from glossogenesis.robustness.figures.frames import draw_whiskers, nothing_to_draw, point

SETS = {"own": "own pairs", "common": "common pairs"}

UNSURE = (0.05, 0.95)
"""A component whose share of resamples in the circuit lies between is marked."""

_LOOKS = {
    "attention": Look(PALETTE[0], "o", filled=True),
    "mlp": Look(PALETTE[1], "s", filled=False),
}
_NAMES = {"attention": "attention", "mlp": "MLP"}
_COLOURS = "PuOr_r"
_MOST_TICKS = 14


def component_frame(circuit: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Mean effect of every component on both sets of pairs; empty where there are no pairs.

    `circuit` is the table `robustness_circuit` of one model; `threshold` is that of the circuit.

    Columns: set, layer, component, n (pairs), value, low, high, in_circuit, membership, threshold.
    """
    rows = circuit.filter(measure="component_effect", threshold=threshold)
    names = {name: place for place, name in enumerate(SETS)}
    order = pl.col("set").replace_strict(names, return_dtype=pl.Int32)
    return rows.sort(order, "layer", "component").select(
        *("set", "layer", "component", "n", "value", "low", "high"),
        *("in_circuit", "membership", "threshold"),
    )


def plot_component_effects(data: pl.DataFrame, label: str) -> Figure:
    """Effects by layer (up) and component: a heat map a set of pairs, intervals beside it.

    `data` is a `component_frame`. Members of the circuit are framed; a dot marks components that
    are in it in some resamples of pairs and not in others.
    """
    if data.is_empty():
        return nothing_to_draw("no pair of posts qualifies: no effects to show", label)
    sets = [name for name in SETS if name in set(data["set"])]
    layers = data["layer"].unique().sort().to_list()
    # A scale needs a width, also where no component has an effect.
    norm = CenteredNorm(halfrange=max(1e-9, *data["value"].abs()))
    with paper_style():
        height = 1.0 + min(4.2, 0.17 * max(len(layers), 6))
        figure = new_figure(PAGE_WIDTH if len(sets) > 1 else 0.6 * PAGE_WIDTH, height)
        grid = figure.subplots(
            1, 2 * len(sets), sharey=True, squeeze=False, width_ratios=[0.62, 1] * len(sets)
        )[0]
        for place, name in enumerate(sets):
            rows = data.filter(set=name)
            mesh = _draw_cells(grid[2 * place], rows, layers, norm)
            _draw_intervals(grid[2 * place + 1], rows)
            pairs, members = rows["n"][0], int(rows["in_circuit"].sum())
            grid[2 * place].set_title(SETS[name], loc="left")
            grid[2 * place + 1].set_title(
                f"{pairs:,} pairs; circuit: {members} of {rows.height}", loc="right"
            )
        _label_layers(grid[0], layers)
        bar = figure.colorbar(mesh, ax=list(grid), aspect=24, pad=0.015, fraction=0.05)
        bar.set_label("mean effect")
        bar.outline.set_linewidth(0.5)
        legend_below(figure, _entries(data))
        draw_heading(figure, f"{label}: effect of components on the label's logit")
    return figure


def _draw_cells(axes: Axes, rows: pl.DataFrame, layers: list[int], norm: CenteredNorm) -> QuadMesh:
    """The heat map: what is in the circuit is framed, what is unsure dotted."""
    cells = np.full((len(layers), len(COMPONENTS)), np.nan)
    for row in rows.iter_rows(named=True):
        up, across = layers.index(row["layer"]), COMPONENTS.index(row["component"])
        cells[up, across] = row["value"]
        if row["in_circuit"]:
            corner = (across - 0.46, up - 0.46)
            frame = Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=INK, zorder=4)
            axes.add_patch(frame)
        if UNSURE[0] < row["membership"] < UNSURE[1]:
            axes.plot(across, up, linestyle="none", marker=".", color=INK, zorder=4)
    mesh = axes.pcolormesh(
        np.arange(len(COMPONENTS)), np.arange(len(layers)), cells, cmap=_COLOURS, norm=norm
    )
    axes.set_xticks(range(len(COMPONENTS)), [_NAMES[name] for name in COMPONENTS])
    axes.set_xlabel("component")
    return mesh


def _draw_intervals(axes: Axes, rows: pl.DataFrame) -> None:
    """The same effects as points with their intervals, and the threshold."""
    axes.axvline(0, color=INK, linewidth=0.6, zorder=0.5)
    axes.axvline(
        rows["threshold"][0], color=FAINT, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0.5
    )
    layers = rows["layer"].unique().sort().to_list()
    for component, shift in zip(COMPONENTS, (0.16, -0.16), strict=True):
        part = rows.filter(component=component)
        where = [layers.index(layer) + shift for layer in part["layer"]]
        draw_whiskers(axes, where, part, _LOOKS[component], upright=False)
    axes.set_xlabel("mean effect")
    axes.tick_params(labelleft=False)


def _label_layers(axes: Axes, layers: list[int]) -> None:
    shown = range(0, len(layers), math.ceil(len(layers) / _MOST_TICKS))
    axes.set_yticks(shown, [str(layers[place]) for place in shown])
    axes.set_ylim(-0.5, len(layers) - 0.5)
    axes.set_ylabel("layer")
    axes.tick_params(labelleft=True)


def _entries(data: pl.DataFrame) -> list[Line2D | Patch]:
    threshold = data["threshold"][0]
    entries: list[Line2D | Patch] = [point(_NAMES[name], _LOOKS[name]) for name in COMPONENTS]
    entries.append(
        Line2D(
            [],
            [],
            color=FAINT,
            linewidth=0.8,
            linestyle=(0, (3, 2)),
            label=f"threshold {threshold:g}",
        )
    )
    entries.append(Patch(fill=False, edgecolor=INK, label="in the circuit"))
    if data["membership"].is_between(*UNSURE, closed="none").any():
        text = "unsure: in it in 5 to 95 % of resamples"
        entries.append(Line2D([], [], linestyle="none", marker=".", color=INK, label=text))
    return entries
