"""Figures of features over training: languages, depth, monosemanticity, sizes, quality.

Each takes a frame of `features.frames` and returns a Figure. Bands are 95 % intervals as the frame
gives them; points without an interval have no band.

They add to `panels`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from glossogenesis.exceptions import StudyError
from glossogenesis.features.frames import DEPTHS, LABELLED, MEASURES, shown_layers
from glossogenesis.features.schemas import BILINGUAL, DEFAULT, MIXED
from glossogenesis.features.tables import ALL
from glossogenesis.figures.panels import (
    CHECKPOINT_COLUMNS,
    draw_heading,
    draw_line,
    draw_phases,
    draw_stops,
    draw_training_axis,
    even_places,
    finish_training_panel,
    grid_of_panels,
    handle,
    label_outer,
    layer_look,
    legend_below,
    positions,
    training_axis,
)
from glossogenesis.figures.style import (
    FAINT,
    INK,
    LINE_STYLES,
    PAGE_WIDTH,
    Look,
    look_of,
    new_figure,
    paper_style,
)
from glossogenesis.study.setups import EVERY_DEPTH

WIDE_INTERVAL = 0.2
"""Cells of a heat map whose interval is wider carry a dot."""

_MEASURE_NAMES = {
    BILINGUAL: "share of bilingual features",
    "monosemanticity": "mean monosemanticity",
    LABELLED: "labelled share of all features",
}
_LABEL_NAMES = {ALL: "all labelled", LABELLED: "labelled, of all features"}
_DEPTH_NAMES = {"early": "early third", "middle": "middle third", "late": "late third"}
_MOST_CHECKPOINTS = 5
_MOST_LAYER_TICKS = 8

QUALITY_MEASURES = {
    "explained_variance": "explained variance",
    "recovered": "cross-entropy recovered",
    "l0": "latents per token (L0)",
    "dead_share": "share of dead latents",
}
_TO_ONE = ("explained_variance", "recovered")
_DRAWN = (-1.0, 1.5)
"""Lowest and highest of these; where a model has learnt little, a ratio can be anything."""

_ENDS = {"recovered": ("recovered_low", "recovered_high")}


def plot_feature_languages(
    data: pl.DataFrame, codes: Sequence[str], stages: pl.DataFrame, label: str
) -> Figure:
    """Share of features of each language and of bilingual ones over training, a panel a layer.

    The line in faint grey is the share of the dictionary that is labelled.

    `data` is a `share_frame`; `stages` the rows of `features_stages` of the same model and
    autoencoder: each layer's numbers stand in its title, the verdict over all layers on top, with
    how many of the other choices of method agree.
    """
    by_default = stages.filter(choice=DEFAULT)
    verdicts = {row["layer"]: row for row in by_default.drop_nulls("layer").iter_rows(named=True)}
    titles = {
        layer: f"layer {layer}\n{stage_numbers(verdicts.get(layer))}"
        for layer in data["layer"].unique()
    }
    figure = _label_panels(data, codes, titles, "share of labelled features")
    with paper_style():
        draw_heading(figure, label + pooled_verdict(stages))
    return figure


def plot_monosemanticity(data: pl.DataFrame, codes: Sequence[str], label: str) -> Figure:
    """Mean monosemanticity by label over training, a panel a layer.

    `data` is a `monosemanticity_frame`.
    """
    titles = {layer: f"layer {layer}" for layer in data["layer"].unique()}
    figure = _label_panels(data, codes, titles, "monosemanticity")
    with paper_style():
        draw_heading(figure, label)
    return figure


def plot_bilingual_features(data: pl.DataFrame, label: str) -> Figure:
    """Share of bilingual features over training by third of the depth, and over layers.

    Below, the share of the dictionary that is labelled, of the same. `data` is a `bilingual_frame`;
    of many checkpoints, evenly taken ones have a line over layers.
    """
    pooled = data.filter(pl.col("layer").is_null())
    by_layer = data.filter(pl.col("layer").is_not_null())
    depths = [depth for depth in DEPTHS if depth in set(pooled["depth"])]
    stops = by_layer.select("checkpoint", "step").unique().sort("step")
    shown = even_places(stops.height, _MOST_CHECKPOINTS)
    training = training_axis(data)
    looks = {depth: layer_look(place, len(depths)) for place, depth in enumerate(depths)}
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 3.9)
        grid = figure.subplots(2, 2, sharey="row", sharex="col")
        for (left, right), measured in zip(grid, ("value", "labelled_share"), strict=True):
            of_share = measured == "value"
            ends = {} if of_share else dict.fromkeys(("low", "high"), pl.lit(None, pl.Float64))
            rows = data.with_columns(value=measured, **ends)
            for place, (depth, look) in enumerate(looks.items()):
                series = rows.filter(pl.col("layer").is_null(), depth=depth)
                where = positions(series, training, place, len(depths))
                draw_line(left, where, series, *look, bands=len(depths))
            finish_training_panel(left, pooled, label_phases=of_share)
            for place, number in enumerate(shown):
                series = rows.filter(
                    pl.col("layer").is_not_null(), checkpoint=stops["checkpoint"][number]
                )
                draw_line(
                    right, series["layer"].to_list(), series, *_step_look(place), bands=len(shown)
                )
            left.set_ylabel(_MEASURE_NAMES[BILINGUAL if of_share else LABELLED])
            left.set_ylim(0, 1)
        grid[0, 0].set_xlabel("")
        layers = by_layer["layer"].unique().sort().to_list()
        ticks = [layers[place] for place in even_places(len(layers), _MOST_LAYER_TICKS)]
        grid[1, 1].set_xticks(ticks, [str(layer) for layer in ticks])
        grid[1, 1].set_xlabel("layer")
        steps = stops["step"].to_list()
        handles = [handle(_DEPTH_NAMES.get(d, "all layers"), *look) for d, look in looks.items()]
        handles += [
            handle(f"step {steps[number]:,}", *_step_look(place))
            for place, number in enumerate(shown)
        ]
        legend_below(figure, handles)
        draw_heading(figure, label)
    return figure


def plot_feature_heatmap(data: pl.DataFrame, label: str) -> Figure:
    """Shares and monosemanticity of every layer (up) and checkpoint (right) as heat maps.

    `data` is a `heat_frame`. Grey cells have no value; a dot marks those whose interval is wider
    than `WIDE_INTERVAL`.
    """
    stops = data.select(CHECKPOINT_COLUMNS).unique().sort("step")
    layers = data["layer"].unique().sort().to_list()
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 1.3 + min(2.4, 0.14 * max(len(layers), 4)))
        panels = figure.subplots(1, len(MEASURES), sharey=True, squeeze=False)[0]
        dotted = False
        for axes, measure in zip(panels, MEASURES, strict=True):
            rows = data.filter(measure=measure)
            dotted |= _draw_cells(figure, axes, rows, stops, layers)
            draw_stops(axes, stops, most=5, label_phases=True)
            changes = stops["phase"].n_unique() > 1
            axes.set_title(_MEASURE_NAMES[measure], pad=12 if changes else None)
        label_outer(panels, "layer")
        if dotted:
            text = f"interval wider than {WIDE_INTERVAL}"
            dot = Line2D([], [], linestyle="none", marker=".", color=INK, label=text)
            legend_below(figure, [dot])
        draw_heading(figure, label)
    return figure


def plot_model_sizes(data: pl.DataFrame, labels: Mapping[str, str], filled: str) -> Figure:
    """Bilingual share, monosemanticity and labelled share over training, one line per model.

    `data` is a `size_frame`; `labels` names the models, `filled` says what share of the grid is
    there.
    """
    models = data["model"].unique(maintain_order=True).to_list()
    shown = without_phases_out_of_order(data)
    training = training_axis(shown)
    with paper_style():
        figure, panels = grid_of_panels(
            len(MEASURES), columns=3, panel_height=2.2, legend_entries=len(models)
        )
        for axes, measure in zip(panels, MEASURES, strict=True):
            axes.set_title(_MEASURE_NAMES[measure])
            for place, model in enumerate(models):
                rows = shown.filter(measure=measure, model=model)
                where = positions(rows, training, place, len(models))
                draw_line(axes, where, rows, *_model_look(place), bands=len(models))
            finish_training_panel(axes, shown, label_phases=True)
        label_outer(panels, "over all layers")
        handles = [
            handle(labels.get(model, model), *_model_look(place))
            for place, model in enumerate(models)
        ]
        legend_below(figure, handles)
        draw_heading(figure, filled)
    return figure


def pooled_verdict(stages: pl.DataFrame) -> str:
    """What happened over all layers, and how many alternatives say the same; to follow a name."""
    pooled = stages.filter(pl.col("depth") == EVERY_DEPTH, pl.col("layer").is_null())
    main = pooled.filter(choice=DEFAULT)
    if main.is_empty():
        return ""
    if main["fall"][0] is None:
        return f": {main['verdict'][0]}"
    said = ["fall_significant", "rise_significant"]
    others = pooled.filter(pl.col("choice") != DEFAULT)
    agree = others.join(main.select(said), on=said, how="semi", nulls_equal=True).height
    note = f"; {agree} of {others.height} other choices of method agree" if others.height else ""
    return f": over all layers, the bilingual share {main['verdict'][0]}{note}"


def stage_numbers(row: Mapping[str, Any] | None) -> str:
    """The three stages of the bilingual share in a few signs: 0.53 ↘ 0.08* ↗ 0.15*.

    A star marks a fall or rise that is significant. Empty where there are too few checkpoints.
    """
    if row is None or row["fall"] is None:
        return ""
    fall, rise = ("*" if row[f"{name}_significant"] else " n.s." for name in ("fall", "rise"))
    height, lowest, end = (f"{row[f'{point}_share']:.2f}" for point in ("height", "lowest", "end"))
    down = "↘" if row["fall"] > 0 else "→"
    up = "↗" if row["rise"] > 0 else "→"
    return f"bilingual {height} {down} {lowest}{fall} {up} {end}{rise}"


def _label_panels(
    data: pl.DataFrame, codes: Sequence[str], titles: Mapping[int, str], measured: str
) -> Figure:
    """A panel a layer, one line per label."""
    layers = data["layer"].unique().sort().to_list()
    known = (*codes, BILINGUAL, MIXED, ALL, LABELLED)
    labels = [label for label in known if label in set(data["label"])]
    training = training_axis(data)
    with paper_style():
        figure, panels = grid_of_panels(
            len(layers),
            columns=2 if len(layers) in (2, 4) else 3,
            panel_height=1.75,
            legend_entries=len(labels),
        )
        for axes, layer in zip(panels, layers, strict=True):
            axes.set_title(titles[layer])
            for place, label in enumerate(labels):
                rows = data.filter(layer=layer, label=label)
                where = positions(rows, training, place, len(labels))
                draw_line(axes, where, rows, *label_look(label, codes), bands=len(labels))
            finish_training_panel(axes, data, label_phases=axes is panels[0])
        label_outer(panels, measured)
        handles = [
            handle(_LABEL_NAMES.get(label, label), *label_look(label, codes)) for label in labels
        ]
        legend_below(figure, handles)
    return figure


def _draw_cells(
    figure: Figure,
    axes: Axes,
    rows: pl.DataFrame,
    stops: pl.DataFrame,
    layers: Sequence[int],
) -> bool:
    """A heat map with its colour bar; whether a cell carries a dot."""
    columns = {checkpoint: place for place, checkpoint in enumerate(stops["checkpoint"])}
    values = np.full((len(layers), stops.height), np.nan)
    dotted = []
    for row in rows.drop_nulls("value").iter_rows(named=True):
        place = layers.index(row["layer"]), columns[row["checkpoint"]]
        values[place] = row["value"]
        if row["low"] is not None and row["high"] - row["low"] > WIDE_INTERVAL:
            dotted.append(place)
    axes.set_facecolor("#BBBBBB")
    bottom, top = _span(values[~np.isnan(values)])
    mesh = axes.pcolormesh(
        np.arange(stops.height + 1) - 0.5,
        np.arange(len(layers) + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=seaborn.color_palette("mako_r", as_cmap=True),
        vmin=bottom,
        vmax=top,
        edgecolors="face",
        linewidth=0.2,
    )
    for up, right in dotted:
        shade = "white" if values[up, right] > (bottom + top) / 2 else INK
        axes.plot(right, up, marker=".", color=shade, linestyle="none")
    shown = even_places(len(layers), _MOST_LAYER_TICKS)
    axes.set_yticks(shown, [str(layers[place]) for place in shown])
    axes.set_ylim(-0.5, len(layers) - 0.5)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=18)
    bar.outline.set_linewidth(0.5)
    return bool(dotted)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Range of a colour scale of shares: that of the values, but never less than a tenth."""
    if not values.size:
        return 0.0, 1.0
    bottom, top = float(values.min()), float(values.max())
    spare = max(0.0, 0.1 - (top - bottom)) / 2
    bottom = max(0.0, bottom - spare)
    return bottom, max(top + spare, bottom + 0.1)


def _step_look(place: int) -> tuple[Any, Any]:
    """Look of a checkpoint among those that have a line over layers."""
    return look_of(place), LINE_STYLES[place % len(LINE_STYLES)]


def _model_look(place: int) -> tuple[Any, Any]:
    return look_of(place), LINE_STYLES[place % len(LINE_STYLES)]


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
    for measure in QUALITY_MEASURES:
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
    """Explained variance, recovery, L0 and dead share over training: one line per layer.

    `data` is a `quality_frame`. Explained variance and recovery below -1 or above 1.5 stand there.
    """
    measures = [measure for measure in QUALITY_MEASURES if measure in set(data["measure"])]
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
            axes.set_title(QUALITY_MEASURES[measure])
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


def label_look(label: str, codes: Sequence[str]) -> tuple[Look, Any]:
    """Look and line style of a label: languages in colour, bilingual in black, others in grey."""
    fixed = {
        BILINGUAL: (Look("#000000", "o", filled=True), LINE_STYLES[1]),
        MIXED: (Look("#444444", "s", filled=False), LINE_STYLES[1]),
        ALL: (Look("#777777", "h", filled=False), LINE_STYLES[2]),
        LABELLED: (Look(FAINT, ".", filled=True), LINE_STYLES[2]),
    }
    if label in fixed:
        return fixed[label]
    return look_of(list(codes).index(label)), LINE_STYLES[0]


def without_phases_out_of_order(data: pl.DataFrame) -> pl.DataFrame:
    """`data` with a single phase where its models do not change phase at the same places."""
    column = training_axis(data).column
    phases = data.select(column, "phase").unique().sort(column, "phase")["phase"]
    return data if phases.is_sorted() else data.with_columns(phase=pl.lit(1, data["phase"].dtype))
