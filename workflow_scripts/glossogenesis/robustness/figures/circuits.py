"""Figure of how well classifiers work with their circuits alone and without them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from glossogenesis.figures.feature_panels import draw_heading
from glossogenesis.figures.panels import legend_below
from glossogenesis.figures.style import INK, PAGE_WIDTH, Look, new_figure, paper_style
from glossogenesis.robustness.figures.frames import (
    counted,
    draw_whiskers,
    lighter,
    model_looks,
    nothing_to_draw,
    of_models,
    point,
)

MEASURES = {"sufficiency": "relative", "necessity": "points"}
"""What is drawn, and in which unit."""

SETS = {"own": "circuit of own pairs", "common": "circuit of common pairs"}
CIRCUITS = ("effect", "random")
_AXES = {
    "sufficiency": "sufficiency\n(share of accuracy kept)",
    "necessity": "necessity\n(points of accuracy lost)",
}
_METHODS = {"mean": "mean", "zero": "zero", "resample": "other post"}
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx")
_GROUP = 0.8
"""Width of the bars of one method together."""


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
        "set": list(SETS),
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
    """Bars of sufficiency (above) and necessity (below) by what stands in, a column a set of pairs.

    `data` is a `circuit_frame`. Whiskers are intervals; hollow markers are random circuits of the
    same size, with the range of their draws.
    """
    heading = "Circuits: what is kept by them alone, and lost without them"
    if data.is_empty():
        return nothing_to_draw("no pair of posts qualifies: there are no circuits", heading)
    sets = [name for name in SETS if name in set(data["set"])]
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
                    axes.set_title(f"{SETS[name]}\n{_sizes(rows, models)}")
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
