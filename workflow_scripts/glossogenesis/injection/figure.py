"""Figure of what injected features change, with controls, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.figure import Figure

from glossogenesis.exceptions import StudyError
from glossogenesis.features.schemas import BILINGUAL, SYMBOL
from glossogenesis.figures.panels import (
    CHECKPOINT_COLUMNS,
    draw_heading,
    draw_line,
    draw_phases,
    draw_training_axis,
    even_places,
    handle,
    label_outer,
    legend_below,
    positions,
    training_axis,
)
from glossogenesis.figures.style import (
    FAINT,
    INK,
    LINE_STYLES,
    PAGE_WIDTH,
    PALETTE,
    Look,
    new_figure,
    paper_style,
)
from glossogenesis.injection.tables import NONE, PERPLEXITY

POOLED = "all"
CONTROLS = (NONE, "random", "norm_matched")
MOST_ROWS = 6
"""Rows of panels, one a layer and group."""
MOST_COLUMNS = 4
"""Columns of panels, one a language or pair of languages."""

_LOOKS = {
    NONE: (Look(PALETTE[1], "o", filled=True), LINE_STYLES[0]),
    "random": (Look(PALETTE[0], "s", filled=False), LINE_STYLES[1]),
    "norm_matched": (Look(FAINT, "^", filled=False), LINE_STYLES[2]),
}
_NAMES = {
    NONE: "features of the group",
    "random": "control: random features",
    "norm_matched": "control: random direction",
}
_METRICS = {PERPLEXITY: "log perplexity", "bleu": "BLEU", "chrf": "chrF", "exact": "exact match"}


def injection_frame(
    injection: pl.DataFrame, codes: Sequence[str], measure: str = PERPLEXITY
) -> pl.DataFrame:
    """Difference to no injection of every group and control, per layer and target checkpoint.

    `injection` is the table `features_injection` of one model; of several strengths, the one
    closest to 1 is taken. low and high of a group are its interval; of a control, the lowest and
    highest of its draws.

    Columns: layer, alpha, group, evaluated, control, checkpoint, step, tokens, phase, draws, n,
    value, low, high; evaluated languages in the order of `codes`, then all of them together.
    """
    rows = injection.filter(pl.col("measure") == measure, pl.col("group") != NONE)
    if rows.is_empty():
        known = ", ".join(injection["measure"].unique().sort())
        raise StudyError(
            f"features_injection: no injected group with measure {measure}; it has "
            f"{known or 'no rows'}"
        )
    strengths = rows["alpha"].unique().sort()
    nearest = min(strengths, key=lambda alpha: abs(alpha - 1))
    is_group = pl.col("control") == NONE
    rows = rows.filter(alpha=nearest).with_columns(
        low=pl.when(is_group).then("difference_low").otherwise("difference_minimum"),
        high=pl.when(is_group).then("difference_high").otherwise("difference_maximum"),
    )
    groups = {group: place for place, group in enumerate((*codes, BILINGUAL, SYMBOL))}
    evaluated = {**groups, POOLED: len(groups) + 1}
    return rows.sort(
        "layer",
        pl.col("group").replace_strict(groups, default=len(groups), return_dtype=pl.Int32),
        pl.col("evaluated").replace_strict(evaluated, default=len(groups), return_dtype=pl.Int32),
        "evaluated",
        pl.col("control").replace_strict(
            {name: place for place, name in enumerate(CONTROLS)}, return_dtype=pl.Int32
        ),
        "step",
        maintain_order=True,
    ).select(
        *("layer", "alpha", "group", "evaluated", "control", *CHECKPOINT_COLUMNS, "draws", "n"),
        *(pl.col("difference").alias("value"), "low", "high"),
    )


def plot_injection(data: pl.DataFrame, label: str, measure: str = PERPLEXITY) -> Figure:
    """Difference to no injection over target checkpoints, with controls.

    `data` is an `injection_frame`. A row of panels is a group that is injected at a layer, a column
    the language that is predicted; where there are more layers and groups, or languages, than fit a
    page, layers are taken evenly and languages from the first, with all of them together.
    """
    rows = _shown_rows(data)
    columns = _shown_columns(data)
    training = training_axis(data)
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 1.25 * len(rows) + 0.75)
        grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
        panels = list(grid.flat)
        places = [(row, column) for row in rows for column in columns]
        for axes, ((layer, group), evaluated) in zip(panels, places, strict=True):
            part = data.filter(layer=layer, group=group, evaluated=evaluated)
            axes.axhline(0, color=INK, linewidth=0.6, zorder=0.5)
            for place, control in enumerate(CONTROLS):
                series = part.filter(control=control)
                if not series.is_empty():
                    where = positions(series, training, place, len(CONTROLS))
                    draw_line(axes, where, series, *_LOOKS[control], bands=len(CONTROLS))
            draw_training_axis(axes, training)
            draw_phases(axes, training, label=axes is panels[0])
        for axes, evaluated in zip(grid[0], columns, strict=True):
            axes.set_title(_column_title(evaluated, measure))
        label_outer(panels, "")
        for axes, (layer, group) in zip(grid[:, 0], rows, strict=True):
            axes.set_ylabel(f"inject {group}\nat layer {layer}")
        legend_below(figure, [handle(_NAMES[name], *_LOOKS[name]) for name in CONTROLS])
        better = "below 0 is better" if measure == PERPLEXITY else "above 0 is better"
        name = _METRICS.get(measure, measure.upper())
        strength = f"strength {data['alpha'][0]:g}"
        draw_heading(
            figure, f"{label}: difference in {name} to no injection ({better}), {strength}"
        )
    return figure


def _shown_rows(data: pl.DataFrame) -> list[tuple[int, str]]:
    """Layers with groups, as many layers as `MOST_ROWS` allows."""
    groups = data["group"].unique(maintain_order=True).to_list()
    layers = data["layer"].unique().sort().to_list()
    most = max(1, MOST_ROWS // len(groups))
    chosen = [layers[len(layers) // 2]]
    if most > 1:
        chosen = [layers[place] for place in even_places(len(layers), most)]
    return [(layer, group) for layer in chosen for group in groups]


def _shown_columns(data: pl.DataFrame) -> list[str]:
    """Evaluated languages or pairs; the last is always there."""
    names = data["evaluated"].unique(maintain_order=True).to_list()
    return [*names[: MOST_COLUMNS - 1], names[-1]] if len(names) > MOST_COLUMNS else names


def _column_title(evaluated: str, measure: str) -> str:
    if evaluated == POOLED:
        return "all languages"
    return f"predicting {evaluated}" if measure == PERPLEXITY else evaluated.replace("→", " → ")
