"""Figure of how many cues the top features of a label rest on, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from glossogenesis.errors import StudyError
from glossogenesis.figures.feature_panels import draw_heading
from glossogenesis.figures.panels import legend_below
from glossogenesis.figures.style import INK, PAGE_WIDTH, Look, new_figure, paper_style
from glossogenesis.robustness.figures.frames import (
    MEAN,
    best_layers,
    counted,
    layer_with_l0,
    model_looks,
    of_models,
    point,
    with_l0,
)

PANELS = {
    "surface": ("top_surface_share", "unique_surfaces"),
    "token": ("top_token_share", "unique_tokens"),
}
"""Share of the most frequent one (right) and number of different ones (up) in each panel."""

_TITLES = {"surface": "surface forms", "token": "token ids (of each model's own tokenizer)"}
_AXES = {
    "top_surface_share": "share of the most frequent surface form",
    "unique_surfaces": "different surface forms",
    "top_token_share": "share of the most frequent token",
    "unique_tokens": "different tokens",
}


def cue_frame(
    cues: pl.DataFrame,
    features: pl.DataFrame,
    knockout: pl.DataFrame,
    models: Mapping[str, str],
    sae: str,
) -> pl.DataFrame:
    """Cues of every label, and of all, at each model's best layer.

    The arguments are the tables `robustness_cues`, `robustness_features` and
    `robustness_knockout`; the last says which layer is the best. A model without one is shown at
    its deepest layer.

    Columns: model, layer, best, l0, label, measure, n (features; labels where the label is `mean`),
    activations, value, low, high, surfaces.
    """
    rows = of_models(cues, models, sae=sae)
    best = best_layers(knockout.filter(sae=sae), models)
    parts = []
    for model in models:
        of_model = rows.filter(model=model)
        layer = best.get(model, of_model["layer"].max())
        parts.append(of_model.filter(layer=layer).with_columns(best=pl.lit(model in best)))
    frame = with_l0(pl.concat(parts), features, sae)
    if frame["value"].is_null().all():
        raise StudyError(
            "robustness_cues: no label has features that fire; train the autoencoders on more posts"
        )
    return frame.select(
        *("model", "layer", "best", "l0", "label", "measure", "n", "activations"),
        *("value", "low", "high", "surfaces"),
    )


def plot_cues(data: pl.DataFrame, models: Mapping[str, str]) -> Figure:
    """A point a label: one cue that is most of all to the right, many cues further up.

    `data` is a `cue_frame`. Whiskers are intervals both ways; large points with a black edge are
    means over labels.
    """
    looks = model_looks(models)
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 3.3)
        panels = figure.subplots(1, len(PANELS), squeeze=False)[0]
        for axes, (name, measures) in zip(panels, PANELS.items(), strict=True):
            axes.set_title(_TITLES[name])
            for model in models:
                _draw_points(axes, data.filter(model=model), measures, looks[model])
            axes.set_xlabel(_AXES[measures[0]])
            axes.set_ylabel(_AXES[measures[1]])
            axes.set_xlim(0, 1.02)
            axes.set_ylim(bottom=0)
        legend_below(figure, _entries(data, models, looks))
        draw_heading(
            figure,
            "Cues of labels: what the strongest activations of a label's top features are on "
            f"({counted(data.filter(pl.col('label') != MEAN))} features a label)",
        )
    return figure


def _draw_points(axes: Axes, rows: pl.DataFrame, measures: tuple[str, str], look: Look) -> None:
    across, up = (rows.filter(measure=measure) for measure in measures)
    both = across.join(up, on="label", suffix="_up", maintain_order="left").fill_null(float("nan"))
    labels = both.filter(pl.col("label") != MEAN)
    for part, opacity, width in (
        (labels, 0.45, 0.7),
        (both.filter(label=MEAN), 1.0, 1.2),
    ):
        x, y = part["value"].to_numpy(), part["value_up"].to_numpy()
        ends: dict[str, Any] = {
            "color": look.colour,
            "linewidth": width,
            "alpha": opacity,
            "zorder": 2,
        }
        axes.hlines(y, part["low"].to_numpy(), part["high"].to_numpy(), **ends)
        axes.vlines(x, part["low_up"].to_numpy(), part["high_up"].to_numpy(), **ends)
    axes.plot(
        labels["value"].to_numpy(),
        labels["value_up"].to_numpy(),
        linestyle="none",
        zorder=3,
        clip_on=False,
        **look.marker_options(),
    )
    mean = both.filter(label=MEAN)
    axes.plot(
        mean["value"].to_numpy(),
        mean["value_up"].to_numpy(),
        linestyle="none",
        zorder=4,
        clip_on=False,
        **look.marker_options() | {"markeredgecolor": INK, "markersize": 6.5},
    )


def _entries(
    data: pl.DataFrame, models: Mapping[str, str], looks: Mapping[str, Look]
) -> list[Line2D]:
    entries = []
    for model, label in models.items():
        row = data.filter(model=model).row(0, named=True)
        number = data.filter(pl.col("label") != MEAN, model=model)["label"].n_unique()
        where = layer_with_l0(row["layer"], row["l0"])
        entries.append(point(f"{label}, {where}, n = {number}", looks[model]))
    mean = point("mean over labels", Look(INK, "o", filled=False))
    mean.set_markersize(6.5)
    return [*entries, mean]
