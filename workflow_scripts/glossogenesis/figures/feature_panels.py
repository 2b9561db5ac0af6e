"""Parts that the figures of features share: looks of labels and layers, titles, checkpoint places.

They add to `panels`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import polars as pl
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glossogenesis.features.frames import LABELLED
from glossogenesis.features.schemas import BILINGUAL, MIXED
from glossogenesis.features.tables import ALL
from glossogenesis.figures.checkpoint_axis import even_places, short_number, training_axis
from glossogenesis.figures.style import FAINT, FONT_SIZE, INK, LINE_STYLES, MARKERS, Look, look_of

_LETTERS_PER_INCH = 17
"""Letters of the smallest text that are sure to fit into an inch."""
_LINE_HEIGHT = 0.13
"""Inches of a line of a heading."""


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


def layer_look(place: int, number: int) -> tuple[Look, Any]:
    """Look of a layer at `place` of `number` shown: from light (first) to dark (last)."""
    colours = seaborn.color_palette("crest", number)
    look = Look(colours.as_hex()[place], MARKERS[place % len(MARKERS)], filled=place % 2 == 0)
    return look, LINE_STYLES[place % len(LINE_STYLES)]


def draw_heading(figure: Figure, text: str) -> None:
    """A text over all panels, in as many lines as it needs, for which the figure grows."""
    letters = int(figure.get_figwidth() * _LETTERS_PER_INCH)
    lines = textwrap.wrap(text, letters)
    figure.set_figheight(figure.get_figheight() + _LINE_HEIGHT * len(lines) + 0.05)
    figure.suptitle("\n".join(lines), fontsize=FONT_SIZE + 0.5)


def add_to_heading(figure: Figure, line: str) -> None:
    """One line more under the heading."""
    figure.set_figheight(figure.get_figheight() + _LINE_HEIGHT)
    figure.suptitle(f"{figure.get_suptitle()}\n{line}", fontsize=FONT_SIZE + 0.5)


def draw_stops(axes: Axes, stops: pl.DataFrame, most: int, *, label_phases: bool) -> None:
    """An x axis with one place a checkpoint, at most `most` of them named, phases marked."""
    training = training_axis(stops)
    shown = even_places(stops.height, most)
    axes.set_xticks(shown, [short_number(stops[training.column][place]) for place in shown])
    axes.set_xlim(-0.5, stops.height - 0.5)
    axes.set_xlabel(training.label)
    phases = stops["phase"].to_list()
    for place in range(1, stops.height):
        if phases[place] == phases[place - 1]:
            continue
        axes.axvline(place - 0.5, color="white", linewidth=1.8, zorder=4)
        axes.axvline(place - 0.5, color=INK, linewidth=0.9, linestyle=(0, (2, 1.5)), zorder=5)
        if label_phases:
            axes.annotate(
                f"phase {phases[place - 1]} | {phases[place]}",
                xy=(place - 0.5, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 1.5),
                textcoords="offset points",
                ha="center",
                va="bottom",
                annotation_clip=False,
            )


def without_phases_out_of_order(data: pl.DataFrame) -> pl.DataFrame:
    """`data` with a single phase where its models do not change phase at the same places."""
    column = training_axis(data).column
    phases = data.select(column, "phase").unique().sort(column, "phase")["phase"]
    return data if phases.is_sorted() else data.with_columns(phase=pl.lit(1, data["phase"].dtype))
