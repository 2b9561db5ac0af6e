"""Figures of circuits: effects of components, and how well classifiers work with them alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from glossogenesis.figures.panels import draw_heading, legend_below
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
from glossogenesis.robustness.figures.frames import (
    counted,
    draw_whiskers,
    lighter,
    model_looks,
    nothing_to_draw,
    of_models,
    point,
)

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

MEASURES = {"sufficiency": "relative", "necessity": "points"}
"""What is drawn, and in which unit."""

CIRCUIT_SETS = {"own": "circuit of own pairs", "common": "circuit of common pairs"}
CIRCUITS = ("effect", "random")
_AXES = {
    "sufficiency": "sufficiency\n(share of accuracy kept)",
    "necessity": "necessity\n(points of accuracy lost)",
}
_METHODS = {"mean": "mean", "zero": "zero", "resample": "other post"}
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx")
_GROUP = 0.8
"""Width of the bars of one method together."""


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


def circuit_frame(
    circuit: pl.DataFrame, models: Mapping[str, str], threshold: float
) -> pl.DataFrame:
    """Sufficiency and necessity of each model's circuit and of random ones of its size.

    `circuit` is the table `robustness_circuit`; `models` names the models. Empty where no model has
    pairs.

    Columns: set, measure, unit, method, positions, model, circuit, size, threshold, draws, n
    (posts), value, low, high, interval.
    """
    rows = of_models(circuit, models)
    sizes = rows.filter(measure="circuit_size", threshold=threshold).select(
        "model", "set", size=pl.col("value").cast(pl.Int64)
    )
    tested = rows.filter(
        pl.col("circuit").is_in(CIRCUITS),
        pl.concat_str("measure", "unit").is_in(
            [f"{name}{unit}" for name, unit in MEASURES.items()]
        ),
        threshold=threshold,
    )
    orders = {
        "set": list(CIRCUIT_SETS),
        "measure": list(MEASURES),
        "method": list(_METHODS),
        "positions": ["last", "all"],
        "model": list(models),
        "circuit": list(CIRCUITS),
    }
    ranks = [
        pl.col(name).replace_strict(
            {value: place for place, value in enumerate(order)}, return_dtype=pl.Int32
        )
        for name, order in orders.items()
    ]
    return (
        tested.join(sizes, on=["model", "set"], how="left", maintain_order="left")
        .sort(*ranks)
        .select(
            *("set", "measure", "unit", "method", "positions", "model", "circuit", "size"),
            *("threshold", "draws", "n", "value", "low", "high", "interval"),
        )
    )


def plot_circuit_ablation(data: pl.DataFrame, models: Mapping[str, str]) -> Figure:
    """Bars of sufficiency (above) and necessity (below) by what replaces, a column for each set.

    `data` is a `circuit_frame`. Whiskers are intervals; hollow markers are random circuits of the
    same size, with the range of their draws.
    """
    heading = "Circuits: what is kept by them alone, and lost without them"
    if data.is_empty():
        return nothing_to_draw("no pair of posts qualifies: there are no circuits", heading)
    sets = [name for name in CIRCUIT_SETS if name in set(data["set"])]
    looks = model_looks(models)
    with paper_style():
        figure = new_figure(PAGE_WIDTH if len(sets) > 1 else 0.6 * PAGE_WIDTH, 4.1)
        grid = figure.subplots(len(MEASURES), len(sets), sharex="col", sharey="row", squeeze=False)
        for panels, measure in zip(grid, MEASURES, strict=True):
            for axes, name in zip(panels, sets, strict=True):
                rows = data.filter(set=name, measure=measure)
                _draw_bars(axes, rows, looks)
                axes.axhline(0, color=INK, linewidth=0.6)
                if measure == "sufficiency":
                    axes.axhline(1, color=INK, linewidth=0.6, linestyle=(0, (1, 1.5)))
                    axes.set_title(f"{CIRCUIT_SETS[name]}\n{_sizes(rows, models)}")
            panels[0].set_ylabel(_AXES[measure])
        for axes in grid[-1]:
            axes.set_xlabel("what stands in for an ablated output")
        handles: list[Line2D | Patch] = [
            Patch(
                facecolor=looks[model].colour,
                hatch=_HATCHES[place % len(_HATCHES)],
                edgecolor="white",
                label=label,
            )
            for place, (model, label) in enumerate(models.items())
        ]
        control = Look(INK, "D", filled=False)
        legend_below(figure, [*handles, point("random circuits of the same size", control)])
        threshold = data["threshold"][0]
        draw_heading(
            figure, f"{heading}; threshold {threshold:g}, n = {counted(data)} held-out posts"
        )
    return figure


def _draw_bars(axes: Axes, rows: pl.DataFrame, looks: Mapping[str, Look]) -> None:
    """A group of bars a method and place, a bar a model, with the control on it."""
    places = rows.select("method", "positions").unique(maintain_order=True).rows()
    several = rows["positions"].n_unique() > 1
    width = _GROUP / len(looks)
    for number, (model, look) in enumerate(looks.items()):
        shift = (number - (len(looks) - 1) / 2) * width
        for circuit in CIRCUITS:
            part = rows.filter(model=model, circuit=circuit)
            x = [places.index(key) + shift for key in part.select("method", "positions").rows()]
            if circuit == "random":
                shown = [each + 0.27 * width for each in x]
                draw_whiskers(axes, shown, part, lighter(Look(INK, "D", filled=False), "D"))
                continue
            axes.bar(
                x,
                part["value"].fill_null(0.0),
                width=0.92 * width,
                color=look.colour,
                edgecolor="white",
                linewidth=0.4,
                hatch=_HATCHES[number % len(_HATCHES)],
                zorder=1,
            )
            low, high = (
                part[end].cast(pl.Float64).fill_null(np.nan).to_numpy() for end in ("low", "high")
            )
            for colour, thick in (("white", 2.2), (INK, 0.9)):
                axes.vlines(x, low, high, color=colour, linewidth=thick, zorder=2)
    names = [_METHODS[method] + (f"\n({where})" if several else "") for method, where in places]
    axes.set_xticks(range(len(places)), names)


def _sizes(rows: pl.DataFrame, models: Mapping[str, str]) -> str:
    """How many components each model's circuit has."""
    sizes = dict(rows.select("model", "size").unique(maintain_order=True).rows())
    shown = [str(sizes[model]) for model in models if model in sizes]
    return f"{' and '.join(shown)} components"
