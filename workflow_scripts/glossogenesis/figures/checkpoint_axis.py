"""The axis of training: tokens or steps in decades, step 0 included, with the phases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from glossogenesis.figures.style import FAINT, INK

CHECKPOINT_COLUMNS = ("checkpoint", "step", "tokens", "phase")

# Decades that the stretch between 0 and the first positive checkpoint takes.
_ZERO_STRETCH = 0.5
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


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
