"""The figures of the concepts study: each takes a frame of `concepts.frames`.

Bands are 95 % intervals as the frame gives them; points without an interval have no band.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from glossogenesis.concepts.frames import Languages, layer_note
from glossogenesis.concepts.scoring import OUTCOMES
from glossogenesis.figures.panels import (
    CHECKPOINT_COLUMNS,
    bar_handle,
    checkpoint_colours,
    draw_band,
    draw_checkpoint_bar,
    draw_checkpoint_ticks,
    draw_line,
    draw_reference,
    draw_stack,
    even_places,
    finish_training_panel,
    grid_of_panels,
    handle,
    heading,
    label_outer,
    legend_below,
    note_above,
    positions,
    short_number,
    training_axis,
)
from glossogenesis.figures.style import (
    COLUMN_WIDTH,
    FAINT,
    INK,
    LINE_STYLES,
    PAGE_WIDTH,
    PALETTE,
    Look,
    look_of,
    new_figure,
    paper_style,
)

OUTCOME_LOOKS = {
    "correct": ("#0072B2", ""),
    "synonym": ("#56B4E9", "////"),
    "copied_input": ("#E69F00", "...."),
    "kept_target": ("#D55E00", "\\\\\\\\"),
    "source_other_language": ("#CC79A7", "xxxx"),
    "other": ("#EEEEEE", ""),
}
OUTCOME_NAMES = {
    "correct": "correct",
    "synonym": "synonym",
    "copied_input": "copied the input",
    "kept_target": "kept the target concept",
    "source_other_language": "expected concept in another language",
    "other": "other",
}

_SPREAD = 0.6
"""Share of a checkpoint's place that its series, side by side, take."""

_MOST_UPRIGHT = 14
"""Pairs whose names fit beside each other."""


def plot_unpatched_accuracy(data: pl.DataFrame, languages: Languages) -> Figure:
    """Accuracy of unpatched prompts over training: a panel a kind of pair, one line per language.

    `data` is an `unpatched_frame`; lines are output languages.
    """
    titles = {
        "copying": "copying: one\nlanguage twice",
        "pivot": f"translating:\npairs with {languages.pivot}",
        "no_pivot": f"translating:\npairs without {languages.pivot}",
        "unseen": "translating: with\nan unseen language",
    }
    kinds = [kind for kind in titles if kind in set(data["kind"])]
    shown = [code for code in languages.codes if code in set(data["output_language"])]
    groups = list(dict.fromkeys(languages.groups[code] for code in languages.codes))
    looks = {code: look_of(place) for place, code in enumerate(languages.codes)}
    lines = {code: _group_line(groups.index(languages.groups[code])) for code in shown}
    training = training_axis(data)
    with paper_style():
        width = min(PAGE_WIDTH, max(COLUMN_WIDTH, 1.4 * (len(kinds) + 1)))
        figure = new_figure(width, max(2.2, 0.5 + 0.135 * (len(shown) + len(groups))))
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            axes.set_title(titles[kind])
            rows = data.filter(kind=kind)
            here = [code for code in shown if code in set(rows["output_language"])]
            for place, code in enumerate(here):
                series = rows.filter(output_language=code)
                where = positions(series, training, place, len(here))
                draw_line(axes, where, series, looks[code], lines[code], bands=len(here))
            finish_training_panel(axes, data, label_phases=True)
        label_outer(panels, "accuracy")
        handles = []
        for group in groups:
            members = [code for code in shown if languages.groups[code] == group]
            handles += [heading(group)] * bool(members)
            handles += [handle(code, looks[code], lines[code]) for code in members]
        figure.legend(
            handles=handles,
            title="output language",
            alignment="left",
            loc="outside right center",
            handlelength=2.6,
        )
    return figure


def plot_patched_accuracy(data: pl.DataFrame, pivot: str) -> Figure:
    """Accuracy of patched prompts over training: a panel a target pair, one line per setting.

    `data` is a `patched_frame`.
    """
    pairs = data.select("input_language", "output_language").unique(maintain_order=True).rows()
    names = setting_names(pivot)
    settings = [setting for setting in names if setting in set(data["setting"])]
    training = training_axis(data)
    with paper_style():
        figure, panels = grid_of_panels(
            len(pairs),
            columns=_columns(len(pairs)),
            panel_height=1.35,
            legend_entries=len(settings),
        )
        for axes, (given, asked) in zip(panels, pairs, strict=True):
            axes.set_title(f"{given} → {asked}")
            rows = data.filter(input_language=given, output_language=asked)
            for place, setting in enumerate(settings):
                series = rows.filter(setting=setting)
                where = positions(series, training, place, len(settings))
                draw_line(axes, where, series, *setting_look(setting), bands=len(settings))
            finish_training_panel(axes, data, label_phases=axes is panels[0])
        label_outer(panels, "accuracy")
        note_above(figure, layer_note(data))
        legend_below(figure, [handle(names[name], *setting_look(name)) for name in settings])
    return figure


def plot_start_layers(data: pl.DataFrame, pivot: str) -> Figure:
    """Accuracy over the start layer of the patch: a panel a setting, one line per checkpoint.

    The last checkpoint of every phase carries a band; with bands on all, none could be seen. `data`
    is a `start_layer_frame`.
    """
    names = setting_names(pivot)
    stops = data.select(CHECKPOINT_COLUMNS).unique().sort("step")
    colours = checkpoint_colours(stops.height)
    banded = set(stops.group_by("phase").agg(pl.col("checkpoint").last())["checkpoint"])
    panel_names = data["panel"].unique(maintain_order=True).to_list()
    with paper_style():
        figure, panels = grid_of_panels(
            len(panel_names), columns=_columns(len(panel_names)), panel_height=1.6, legend_entries=1
        )
        for axes, panel in zip(panels, panel_names, strict=True):
            axes.set_title(_panel_title(panel, names))
            rows = data.filter(panel=panel)
            for colour, checkpoint in zip(colours, stops["checkpoint"], strict=True):
                series = rows.filter(pl.col("start_layer").is_not_null(), checkpoint=checkpoint)
                axes.plot(series["start_layer"], series["value"], color=colour, marker=".")
                if checkpoint in banded:
                    draw_band(
                        axes, series["start_layer"].to_list(), series, colour, bands=len(banded)
                    )
            draw_reference(axes, rows.filter(pl.col("start_layer").is_null()), LINE_STYLES[1])
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
            axes.set_xlabel("patched from layer")
        label_outer(panels, "accuracy")
        draw_checkpoint_bar(figure, panels, stops, colours)
        if data["start_layer"].null_count():
            label = "unpatched, source concept, last checkpoint"
            level = Line2D(
                [], [], color=FAINT, linestyle=LINE_STYLES[1], linewidth=0.9, label=label
            )
            legend_below(figure, [level])
    return figure


def plot_outcomes(data: pl.DataFrame, pivot: str) -> Figure:
    """Shares of outcomes over training, stacked: a panel a setting or pair, a bar a checkpoint.

    The whisker is the interval of the lowest part, `correct`; those of the others stand in the
    frame. `data` is an `outcome_frame`.
    """
    names = setting_names(pivot)
    panel_names = data["panel"].unique(maintain_order=True).to_list()
    stops = data.select(CHECKPOINT_COLUMNS).unique().sort("step")
    happened = [name for name in OUTCOMES if data.filter(outcome=name)["value"].max() != 0]
    looks: dict[str, tuple[str, str]] = {name: OUTCOME_LOOKS[name] for name in happened}
    with paper_style():
        figure, panels = grid_of_panels(
            len(panel_names), columns=3, panel_height=1.5, legend_entries=len(looks)
        )
        for axes, panel in zip(panels, panel_names, strict=True):
            axes.set_title(_panel_title(panel, names))
            draw_stack(axes, data.filter(panel=panel), stops, looks)
            draw_checkpoint_ticks(axes, stops, most=5)
        label_outer(panels, "share of answers")
        note_above(figure, layer_note(data))
        legend_below(figure, [bar_handle(OUTCOME_NAMES[name], *looks[name]) for name in looks])
    return figure


def setting_names(pivot: str) -> dict[str, str]:
    """What figures call each setting, in the order in which they are shown."""
    return {
        "tgt_unpatched": "unpatched, target concept",
        "src_unpatched": "unpatched, source concept",
        "seen": "patched: mean of seen pairs",
        "tgt": "patched: target pair",
        "en_en": f"patched: {pivot} → {pivot}",
        "copy": "patched: output language twice",
        "self": "patched: own prompt",
    }


def setting_look(setting: str) -> tuple[Look, Any]:
    """Unpatched settings are hollow, broken, without colour; patched ones filled and coloured."""
    return {
        "tgt_unpatched": (Look(FAINT, "o", filled=False), LINE_STYLES[1]),
        "src_unpatched": (Look("#000000", "s", filled=False), LINE_STYLES[2]),
        "seen": (Look(PALETTE[0], "o", filled=True), LINE_STYLES[0]),
        "tgt": (Look(PALETTE[1], "^", filled=True), LINE_STYLES[0]),
        "en_en": (Look(PALETTE[2], "D", filled=True), LINE_STYLES[0]),
        "copy": (Look(PALETTE[4], "v", filled=True), LINE_STYLES[0]),
        "self": (Look(PALETTE[3], "P", filled=True), LINE_STYLES[0]),
    }[setting]


def _columns(panels: int) -> int:
    """Four panels beside each other, six where four would not fit on a page."""
    return 4 if panels <= 16 else 6


def _group_line(place: int) -> Any:
    return LINE_STYLES[place % len(LINE_STYLES)]


def _panel_title(panel: str, names: dict[str, str]) -> str:
    """A setting by its name."""
    return names[panel].replace(": ", ":\n").replace(", ", ",\n")


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
