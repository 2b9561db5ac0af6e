"""Parts that figures share: panels, lines with bands, bars, legends, the axis of training."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from glossogenesis.figures.style import (
    FAINT,
    FONT_SIZE,
    INK,
    LINE_STYLES,
    MARKERS,
    PAGE_WIDTH,
    Look,
    new_figure,
)

_LEGEND_KEY = 0.5
_LEGEND_LETTER = 0.053
"""Inches of a legend's key with its margins, and of a letter of small text, on average."""

_LEGEND_COLUMN = 2.3
"""Inches of a column of the legend, at least."""
_BAND = 0.24
"""Opacity of a single band; many that overlap are fainter, so that the lines stay visible."""
_LABEL_HEIGHT = 0.38
"""Inches of figure height for each label of a colour bar."""
_HEADROOM = 1.19
"""Top of a share's axis under a phase label, which needs room above 1."""

CHECKPOINT_COLUMNS = ("checkpoint", "step", "tokens", "phase")

# Decades that the stretch between 0 and the first positive checkpoint takes.
_ZERO_STRETCH = 0.5
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))

_LETTERS_PER_INCH = 17
"""Letters of the smallest text that are sure to fit into an inch."""
_LINE_HEIGHT = 0.13
"""Inches of a line of a heading."""


def grid_of_panels(
    number: int, *, columns: int, panel_height: float, legend_entries: int
) -> tuple[Figure, list[Axes]]:
    """A figure of page width with `number` panels that share both axes; heights in inches.

    Panels keep their width when there are fewer than `columns`, down to half a page. The height
    leaves room for `legend_below` of so many entries.
    """
    across = min(columns, number)
    down = math.ceil(number / across)
    width = PAGE_WIDTH * max(0.5, across / columns)
    legend_rows = math.ceil(legend_entries / _legend_columns(width))
    figure = new_figure(width, panel_height * down + 0.35 + 0.16 * legend_rows)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for spare in panels.flat[number:]:
        spare.remove()
    used: list[Axes] = list(panels.flat[:number])
    return figure, used


def legend_below(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    """A legend under the panels, in as many columns as fit and in even rows."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = _legend_columns(figure.get_figwidth(), longest)
    rows = max(1, math.ceil(len(handles) / columns))
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=math.ceil(len(handles) / rows),
        handlelength=2.6,
    )


def note_above(figure: Figure, note: str) -> None:
    """Text above all panels, if there is any, in as many lines as the width asks for."""
    if note:
        letters = int(figure.get_figwidth() / _LEGEND_LETTER)
        figure.suptitle(textwrap.fill(note, letters), fontsize=FONT_SIZE, color=FAINT)


def label_outer(panels: Sequence[Axes], label: str) -> None:
    """Name the y axis on the left panels only, and the x axis where no panel is below."""
    grid = panels[0].get_gridspec()
    columns = grid.ncols if grid is not None else 1
    for place, axes in enumerate(panels):
        axes.set_ylabel(label if place % columns == 0 else "")
        lowest = place + columns >= len(panels)
        axes.tick_params(labelbottom=lowest)
        if not lowest:
            axes.set_xlabel("")


def draw_line(
    axes: Axes, x: Sequence[float], rows: pl.DataFrame, look: Look, line: Any, *, bands: int
) -> None:
    """A line of `rows.value` over `x` with its band, one of `bands` in the panel.

    `rows` has value, low and high; an end that is null has no band.
    """
    axes.plot(x, rows["value"], linestyle=line, clip_on=False, zorder=3, **look.marker_options())
    draw_band(axes, x, rows, look.colour, bands=bands)


def draw_band(
    axes: Axes, x: Sequence[float], rows: pl.DataFrame, colour: Any, *, bands: int
) -> None:
    """The band between `low` and `high` over `x`; a bar where there is only one point."""
    low, high = _ends(rows)
    if rows.height == 1:
        axes.vlines(x, low, high, color=colour, linewidth=0.9)
    else:
        axes.fill_between(
            x, low, high, color=colour, alpha=_BAND / bands**0.5, linewidth=0, zorder=1
        )


def finish_training_panel(axes: Axes, data: pl.DataFrame, *, label_phases: bool) -> None:
    """Axes of a share over training, the same in every panel of `data`: scale, limits, phases."""
    training = training_axis(data)
    axes.set_ylim(-0.03, _HEADROOM if training.boundaries else 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    draw_training_axis(axes, training)
    draw_phases(axes, training, label=label_phases)


def handle(label: str, look: Look, line: Any) -> Line2D:
    """The legend entry of a line."""
    return Line2D([], [], linestyle=line, label=label, **look.marker_options())


def bar_handle(label: str, fill: str, hatch: str) -> Patch:
    """The legend entry of a part of stacked bars."""
    return Patch(facecolor=fill, hatch=hatch, edgecolor=INK, linewidth=0.3, label=label)


def heading(label: str) -> Line2D:
    """A legend entry that is only a text, above the entries of its group."""
    return Line2D([], [], linestyle="none", label=f"{label}:")


def checkpoint_colours(number: int) -> list[tuple[float, float, float]]:
    """From light (early) to dark (late), also in grey; never so light that white swallows it."""
    return [tuple(colour) for colour in seaborn.color_palette("flare", number)]


def draw_checkpoint_bar(
    figure: Figure,
    panels: Sequence[Axes],
    checkpoints: pl.DataFrame,
    colours: Sequence[tuple[float, float, float]],
) -> None:
    """A colour bar with one field a checkpoint, the latest on top, named by tokens or steps."""
    number = checkpoints.height
    training = training_axis(checkpoints)
    mapped = ScalarMappable(
        BoundaryNorm(np.arange(number + 1) - 0.5, number), ListedColormap(list(colours))
    )
    bar = figure.colorbar(mapped, ax=list(panels), aspect=28, pad=0.015, fraction=0.06)
    shown = even_places(number, int(figure.get_figheight() / _LABEL_HEIGHT))
    labels = [short_number(checkpoints[training.column][place]) for place in shown]
    bar.set_ticks(shown, labels=labels)
    bar.ax.minorticks_off()
    bar.set_label(training.label)
    bar.outline.set_linewidth(0.5)
    phases = checkpoints["phase"].to_list()
    for place in range(1, number):
        if phases[place] != phases[place - 1]:
            bar.ax.axhline(place - 0.5, color="white", linewidth=1.6)


def draw_stack(
    axes: Axes, rows: pl.DataFrame, stops: pl.DataFrame, looks: Mapping[str, tuple[str, str]]
) -> None:
    """Stacked bars of shares, one bar a checkpoint, evenly spaced; a whisker on the lowest part.

    `rows` has checkpoint, outcome, value, low and high. `stops` are the checkpoints of the axis in
    order; those without rows keep their place empty. `looks` gives colour and hatch of each
    outcome, from the bottom up.
    """
    parts = [
        stops.join(rows.filter(outcome=outcome), on="checkpoint", how="left", maintain_order="left")
        for outcome in looks
    ]
    stack_bars(axes, [part["value"] for part in parts], list(looks.values()))
    low, high = _ends(parts[0])
    for colour, width in (("white", 1.8), (INK, 0.8)):
        axes.vlines(np.arange(stops.height), low, high, color=colour, linewidth=width, zorder=4)


def stack_bars(axes: Axes, shares: Sequence[pl.Series], looks: Sequence[tuple[str, str]]) -> None:
    """Bars from the bottom up, one a place from 0 on: shares, null where there is none, and looks.

    A look is a colour and a hatch.
    """
    bottom = np.zeros(len(shares[0]))
    for values, (fill, hatch) in zip(shares, looks, strict=True):
        heights = values.fill_null(0.0).to_numpy()
        axes.bar(
            np.arange(len(heights)),
            heights,
            bottom=bottom,
            width=0.86,
            color=fill,
            hatch=hatch,
            edgecolor=INK,
            linewidth=0.3,
        )
        bottom = bottom + heights


def draw_checkpoint_ticks(axes: Axes, stops: pl.DataFrame, most: int) -> None:
    """Ticks of an axis with one place a checkpoint, at most `most` of them named, and phases."""
    training = training_axis(stops)
    shown = even_places(stops.height, most)
    labels = [short_number(stops[training.column][place]) for place in shown]
    axes.set_xticks(shown, labels)
    axes.set_xlim(-0.6, stops.height - 0.4)
    axes.set_xlabel(training.label)
    phases = stops["phase"].to_list()
    for place in range(1, stops.height):
        if phases[place] != phases[place - 1]:
            axes.vlines(
                place - 0.5, 0, 1, color=INK, linewidth=1.0, linestyle=(0, (2, 1.5)), zorder=5
            )
            axes.annotate(
                f"phase {phases[place - 1]} | {phases[place]}",
                xy=(place - 0.5, 1.0),
                xytext=(0, 1.5),
                textcoords="offset points",
                ha="center",
                va="bottom",
                annotation_clip=False,
            )
    axes.set_ylim(0, _HEADROOM if len(set(phases)) > 1 else 1.0)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])


def draw_reference(axes: Axes, rows: pl.DataFrame, line: Any) -> None:
    """A level line at the value of the last checkpoint of `rows`, if there is one."""
    if not rows.is_empty():
        last = rows.sort("step").row(-1, named=True)
        axes.axhline(last["value"], color=FAINT, linestyle=line, linewidth=0.9, zorder=1)


def _ends(rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Lower and upper ends of intervals, NaN where there are none."""
    low, high = (rows[end].cast(pl.Float64).fill_null(float("nan")) for end in ("low", "high"))
    return low, high


def _legend_columns(width: float, longest: int = 0) -> int:
    """Columns that fit `width` inches where the longest label has so many letters."""
    needed = _LEGEND_KEY + longest * _LEGEND_LETTER
    return max(1, int(width / max(_LEGEND_COLUMN, needed)))


@dataclass(frozen=True)
class TrainingAxis:
    """Where each checkpoint stands and what the axis is called.

    `values` are in order of training; `boundaries` are (position, earlier phase, later phase),
    halfway between the checkpoints of two phases, since the checkpoints do not say where exactly
    one ended.
    """

    column: str
    label: str
    values: tuple[float, ...]
    boundaries: tuple[tuple[float, int, int], ...]


def training_axis(data: pl.DataFrame) -> TrainingAxis:
    """Tokens where every checkpoint states them, else steps; `data` has `CHECKPOINT_COLUMNS`."""
    column = "step" if data["tokens"].null_count() else "tokens"
    stops = data.select(column, "phase").unique().sort(column, "phase")
    values = tuple(float(value) for value in stops[column])
    phases = stops["phase"].to_list()
    boundaries = tuple(
        (_halfway(values[place], values[place + 1]), phases[place], phases[place + 1])
        for place in range(len(values) - 1)
        if phases[place] != phases[place + 1]
    )
    label = "training tokens" if column == "tokens" else "training step"
    return TrainingAxis(column, label, tuple(dict.fromkeys(values)), boundaries)


def short_number(value: float) -> str:
    """`value` in full below ten thousand, else in three digits and a unit: 1152, 65.5k, 48B, 3T."""
    for size, unit in _UNITS:
        if value >= max(size, 10_000):
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def positions(rows: pl.DataFrame, training: TrainingAxis, place: int, number: int) -> list[float]:
    """Where on the x axis the checkpoints of series `place` of `number` stand.

    At a single checkpoint the series stand side by side, since there is nothing else to tell them
    apart.
    """
    if len(training.values) > 1:
        return [float(value) for value in rows[training.column]]
    return [(place + 0.5) / number - 0.5] * rows.height


def draw_training_axis(axes: Axes, training: TrainingAxis) -> None:
    """Set scale, ticks and label of the x axis."""
    axes.set_xlabel(training.label)
    if len(training.values) == 1:
        axes.set_xlim(-1, 1)
        axes.set_xticks([0], [short_number(training.values[0])])
        return
    positive = [value for value in training.values if value > 0]
    if positive[0] == training.values[0]:
        axes.set_xscale("log")
        axes.set_xlim(positive[0] / _margin(positive), positive[-1] * _margin(positive))
    else:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=_ZERO_STRETCH)
        axes.set_xlim(-0.15 * positive[0], positive[-1] * _margin(positive))
    ticks = _ticks(training.values)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([short_number(tick) for tick in ticks]))
    axes.xaxis.set_minor_locator(FixedLocator(_minor_ticks(positive)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_phases(axes: Axes, training: TrainingAxis, *, label: bool) -> None:
    """Mark each change of phase by a vertical line, with its label at the top if asked."""
    for position, earlier, later in training.boundaries:
        axes.axvline(position, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)
        if not label:
            continue
        inside = axes.transAxes.inverted().transform(axes.transData.transform((position, 0)))[0]
        axes.annotate(
            f"phase {earlier} | {later}",
            xy=(position, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-2 if inside > 0.5 else 2, -1),
            textcoords="offset points",
            ha="right" if inside > 0.5 else "left",
            va="top",
            color=INK,
        )


def _halfway(left: float, right: float) -> float:
    """Halfway on the scale of the axis, which is linear between 0 and the first positive value."""
    return math.sqrt(left * right) if left > 0 else (left + right) / 2


def even_places(number: int, most: int) -> list[int]:
    """At most `most` (2 or more) of `number` places, evenly taken, both ends among them."""
    if most >= number:
        return list(range(number))
    return [round(place * (number - 1) / (most - 1)) for place in range(most)]


def _margin(positive: Sequence[float]) -> float:
    """Factor of white space at either end: 3 % of the decades, more where there is hardly one."""
    decades = math.log10(positive[-1] / positive[0])
    return 10 ** max(0.03 * (decades + _ZERO_STRETCH), 0.1 if decades < 1 else 0.05)


def _ticks(values: Sequence[float]) -> list[float]:
    """0 if it is shown, then powers of ten; with less than two, finer ones, or else the ends."""
    positive = [value for value in values if value > 0]
    zero = [0.0] if values[0] == 0 else []
    exponents = range(math.floor(math.log10(positive[0])), math.ceil(math.log10(positive[-1])) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        candidates = [step * 10.0**exponent for exponent in exponents for step in steps]
        shown = [tick for tick in candidates if positive[0] <= tick <= positive[-1]]
        if len(shown) >= 2:
            return zero + _thinned(shown)
    return zero + sorted({positive[0], positive[-1]})


def _thinned(ticks: list[float]) -> list[float]:
    """At most four ticks, evenly taken, so that their labels do not touch in a narrow panel."""
    stride = math.ceil(len(ticks) / 4)
    return ticks[::-1][::stride][::-1]


def _minor_ticks(positive: Sequence[float]) -> list[float]:
    exponents = range(math.floor(math.log10(positive[0])), math.ceil(math.log10(positive[-1])) + 1)
    candidates = [step * 10.0**exponent for exponent in exponents for step in range(1, 10)]
    return [tick for tick in candidates if positive[0] <= tick <= positive[-1]]


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
