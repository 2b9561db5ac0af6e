"""What the figures of the robustness study share: layers, L0, names of labels, looks of models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D

from glossogenesis.exceptions import StudyError
from glossogenesis.figures.panels import draw_heading, even_places
from glossogenesis.figures.style import (
    FAINT,
    PAGE_WIDTH,
    Look,
    look_of,
    new_figure,
    paper_style,
)

MEAN = "mean"
"""The label of rows over all labels."""

_FONT = "DejaVu Sans"
_WHISKER = 0.9


def of_models(table: pl.DataFrame, models: Iterable[str], **chosen: Any) -> pl.DataFrame:
    """Rows of these models, and of what is chosen; StudyError where a model has none at all."""
    for model in models:
        if table.filter(model=model).is_empty():
            known = ", ".join(table["model"].drop_nulls().unique().sort())
            raise StudyError(f"the table has no rows of model {model!r}; it has {known or 'none'}")
    return table.filter(pl.col("model").is_in(list(models)), **chosen)


def best_layers(knockout: pl.DataFrame, models: Iterable[str]) -> dict[str, int]:
    """The layer of each model at which its top features matter most; models without one left out.

    `knockout` is the table `robustness_knockout` of one autoencoder.
    """
    best = knockout.filter(pl.col("best"), label=MEAN, condition="top", measure="delta")
    found = dict(best.select("model", "layer").iter_rows())
    return {model: found[model] for model in models if model in found}


def equal_layer(knockout: pl.DataFrame, models: Sequence[str]) -> int | None:
    """The layer at which models are compared: the first one's best, if all have it.

    Else the deepest that all have; None where there is none.
    """
    layers = [set(knockout.filter(model=model)["layer"]) for model in models]
    shared = set.intersection(*layers)
    best = best_layers(knockout, models[:1]).get(models[0])
    return best if best in shared else max(shared, default=None)


def with_l0(data: pl.DataFrame, features: pl.DataFrame, sae: str) -> pl.DataFrame:
    """`data`, which has model and layer, with the column l0."""
    known = features.filter(pl.col("layer").is_not_null(), sae=sae, measure="l0")
    return data.join(
        known.select("model", "layer", "l0"),
        on=["model", "layer"],
        how="left",
        maintain_order="left",
    )


def readable(labels: Sequence[str]) -> dict[str, str]:
    """What figures call each label: its name, or `label 3` where the font lacks a sign of it.

    Numbers count labels from 1 in the given order, which is that of the CSV file.
    """
    known = _signs()
    return {
        label: label if known.issuperset(map(ord, label)) else f"label {number}"
        for number, label in enumerate(labels, start=1)
    }


def model_looks(models: Iterable[str]) -> dict[str, Look]:
    """The look of each model, in their order."""
    return {model: look_of(place) for place, model in enumerate(models)}


def lighter(look: Look, marker: str) -> Look:
    """A hollow look in the same colour, for a control."""
    return Look(look.colour, marker, filled=False)


def draw_whiskers(
    axes: Axes,
    x: Sequence[float],
    rows: pl.DataFrame,
    look: Look,
    *,
    faint: bool = False,
    upright: bool = True,
) -> None:
    """Points of `rows.value` with whiskers from low to high where there are any.

    `x` is where each stands on the other axis; `upright` says whether values go up. Controls are
    faint.
    """
    value, low, high = (
        rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for name in ("value", "low", "high")
    )
    opacity = 0.55 if faint else 1.0
    lines = axes.vlines if upright else axes.hlines
    lines(x, low, high, color=look.colour, linewidth=_WHISKER, alpha=opacity, zorder=2)
    across, up = (x, value) if upright else (value, x)
    axes.plot(
        across,
        up,
        linestyle="none",
        alpha=opacity,
        zorder=3,
        clip_on=False,
        **look.marker_options(),
    )


def point(label: str, look: Look, *, faint: bool = False) -> Line2D:
    """The legend entry of points."""
    alpha = 0.55 if faint else 1.0
    return Line2D([], [], linestyle="none", label=label, alpha=alpha, **look.marker_options())


def nothing_to_draw(text: str, label: str) -> Figure:
    """A figure that says why it is empty."""
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 0.8)
        figure.text(0.5, 0.4, text, ha="center", va="center", color=FAINT)
        draw_heading(figure, label)
    return figure


def layer_with_l0(layer: int, l0: float | None) -> str:
    """A layer with the L0 of its autoencoder."""
    return f"layer {layer} (L0 {l0:.3g})" if l0 is not None else f"layer {layer}"


def counted(data: pl.DataFrame) -> str:
    """Least and greatest n of some rows: 40, or 38 to 40."""
    low, high = data.select(low=pl.col("n").min(), high=pl.col("n").max()).row(0)
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` (2 or more) of some items, evenly taken, first and last among them."""
    return [items[place] for place in even_places(len(items), most)]


@cache
def _signs() -> frozenset[int]:
    return frozenset(get_font(findfont(_FONT)).get_charmap())
