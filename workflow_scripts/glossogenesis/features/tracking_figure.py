"""Figure of features followed over training, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from glossogenesis.features.frames import shown_layers
from glossogenesis.features.schemas import BILINGUAL
from glossogenesis.features.tables import EVENTS
from glossogenesis.figures.panels import (
    CHECKPOINT_COLUMNS,
    bar_handle,
    draw_heading,
    draw_line,
    draw_stops,
    handle,
    legend_below,
    stack_bars,
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
from glossogenesis.statistics.intervals import with_shares

BORN, WAS_BILINGUAL, WAS_OTHER = "born", "was_bilingual", "was_other"
FROM_LANGUAGE = "from_any_language"
MOST_LAYERS = 3
"""Layers that are shown: each takes two panels."""

_EVENT_LOOKS = {
    "kept": (Look(PALETTE[2], "o", filled=True), LINE_STYLES[0]),
    "death": (Look(PALETTE[1], "v", filled=True), LINE_STYLES[1]),
    "birth": (Look(PALETTE[0], "^", filled=False), LINE_STYLES[2]),
}
_EVENT_NAMES = {
    "kept": "kept (of earlier features)",
    "death": "died (of earlier features)",
    "birth": "born (of features now)",
}
_HATCHES = ("////", "\\\\\\\\", "xxxx", "....", "++++", "oooo")


def event_frame(tracking: pl.DataFrame) -> pl.DataFrame:
    """Share of features kept, died and born per shown layer and checkpoint.

    `tracking` is the table `features_tracking` of one model and autoencoder.

    Columns: layer, part (kept, death, birth), checkpoint, step, tokens, phase, count, n, value,
    low, high.
    """
    rows = _of_layers(tracking).filter(
        pl.col("earlier_language").is_null(), pl.col("language").is_null()
    )
    return rows.sort("layer", "step", maintain_order=True).select(
        *("layer", pl.col("event").alias("part"), *CHECKPOINT_COLUMNS, "count", "n"),
        *(pl.col("share").alias("value"), "low", "high"),
    )


def origin_frame(tracking: pl.DataFrame, codes: Sequence[str]) -> pl.DataFrame:
    """What the bilingual features of each checkpoint were at the checkpoint before.

    Parts: each language (they were of it, and became bilingual), `was_bilingual`, `was_other`
    (another label or none), `born` (no feature before resembles them); their shares add up to 1.
    The part `from_any_language` adds up the languages. Intervals are Wilson's; n is the number of
    bilingual features.

    Columns: layer, part, checkpoint, step, tokens, phase, count, n, value, low, high.
    """
    rows = _of_layers(tracking).filter(language=BILINGUAL)
    earlier = pl.col("earlier_language")
    part = (
        pl.when(pl.col("event") == "birth")
        .then(pl.lit(BORN))
        .when(earlier == BILINGUAL)
        .then(pl.lit(WAS_BILINGUAL))
        .when(earlier.is_in(list(codes)))
        .then(earlier)
        .otherwise(pl.lit(WAS_OTHER))
    )
    keys = ["layer", *CHECKPOINT_COLUMNS]
    stops = _of_layers(tracking).select(keys).unique(maintain_order=True)
    places = pl.DataFrame({"part": [*codes, WAS_BILINGUAL, WAS_OTHER, BORN]})
    counted = rows.group_by(*keys, part.alias("part")).agg(pl.col("count").sum())
    every = stops.join(places, how="cross").join(
        counted, on=[*keys, "part"], how="left", nulls_equal=True, maintain_order="left"
    )
    every = every.with_columns(pl.col("count").fill_null(0))
    from_language = (
        every.filter(pl.col("part").is_in(list(codes)))
        .group_by(keys, maintain_order=True)
        .agg(pl.col("count").sum(), part=pl.lit(FROM_LANGUAGE))
        .select(every.columns)
    )
    n = pl.col("count").filter(pl.col("part") != FROM_LANGUAGE).sum().over(keys)
    shares = with_shares(pl.concat([every, from_language]).with_columns(n=n), "count", "n")
    return shares.sort("layer", "step", maintain_order=True).select(
        *("layer", "part", *CHECKPOINT_COLUMNS, "count", "n"),
        *(pl.col("share").alias("value"), "low", "high"),
    )


def plot_feature_tracking(
    events: pl.DataFrame, origins: pl.DataFrame, codes: Sequence[str], label: str
) -> Figure:
    """Above, features kept, died and born; below, what the bilingual ones were before; by layer.

    `events` is an `event_frame`, `origins` an `origin_frame`; a model with a single checkpoint has
    empty ones, and gets a figure that says so. The whisker stands where the parts
    that were of a language end, and is the interval of their sum.
    """
    if events.is_empty():
        return _nothing_followed(label)
    layers = events["layer"].unique().sort().to_list()
    stops = events.select(CHECKPOINT_COLUMNS).unique().sort("step")
    parts = [
        part
        for part in (*codes, WAS_BILINGUAL, WAS_OTHER, BORN)
        if origins.filter(part=part)["count"].sum() or part in codes
    ]
    looks = {part: _part_look(part, codes) for part in parts}
    with paper_style():
        width = PAGE_WIDTH * max(0.5, len(layers) / MOST_LAYERS)
        figure = new_figure(width, 3.7 + 0.16 * -(-(3 + len(parts)) // max(1, int(width / 2.3))))
        grid = figure.subplots(2, len(layers), sharex=True, sharey=True, squeeze=False)
        for upper, lower, layer in zip(grid[0], grid[1], layers, strict=True):
            upper.set_title(f"layer {layer}", pad=12 if _has_phases(stops) else None)
            _draw_events(upper, events.filter(layer=layer), stops)
            _draw_origins(lower, origins.filter(layer=layer), stops, looks)
            for axes in (upper, lower):
                draw_stops(axes, stops, most=5, label_phases=axes is upper)
                axes.set_ylim(0, 1)
                axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
            upper.set_xlabel("")
        grid[0, 0].set_ylabel("share of features")
        grid[1, 0].set_ylabel("bilingual features: before")
        legend_below(figure, [*_event_handles(), *_part_handles(looks)])
        draw_heading(figure, label)
    return figure


def _of_layers(tracking: pl.DataFrame) -> pl.DataFrame:
    return tracking.filter(pl.col("layer").is_in(shown_layers(tracking, MOST_LAYERS)))


def _nothing_followed(label: str) -> Figure:
    """A figure of a model with a single checkpoint, which has none to compare it with."""
    with paper_style():
        figure = new_figure(COLUMN_WIDTH, 0.6)
        figure.text(0.5, 0.4, "one checkpoint: no features to follow", ha="center", va="center")
        draw_heading(figure, label)
    return figure


def _has_phases(stops: pl.DataFrame) -> bool:
    return stops["phase"].n_unique() > 1


def _draw_events(axes: Axes, rows: pl.DataFrame, stops: pl.DataFrame) -> None:
    """Lines of the events over evenly spaced checkpoints."""
    places = {checkpoint: place for place, checkpoint in enumerate(stops["checkpoint"])}
    for shift, event in enumerate(EVENTS):
        series = rows.filter(part=event)
        # At a single checkpoint the points would hide each other.
        aside = 0.2 * (shift - 1) if stops.height == 1 else 0.0
        where = [places[checkpoint] + aside for checkpoint in series["checkpoint"]]
        draw_line(axes, where, series, *_EVENT_LOOKS[event], bands=len(EVENTS))


def _draw_origins(
    axes: Axes, rows: pl.DataFrame, stops: pl.DataFrame, looks: Mapping[str, tuple[str, str]]
) -> None:
    """Stacked bars of what the bilingual features were, languages at the bottom, with a whisker."""
    keys = stops.select("checkpoint")
    shares = [
        keys.join(rows.filter(part=part), on="checkpoint", how="left")["value"] for part in looks
    ]
    stack_bars(axes, shares, list(looks.values()))
    specific = rows.filter(pl.col("part") == FROM_LANGUAGE, pl.col("value").is_not_null())
    places = {checkpoint: place for place, checkpoint in enumerate(stops["checkpoint"])}
    at = [places[checkpoint] for checkpoint in specific["checkpoint"]]
    for colour, width in (("white", 2.0), (INK, 0.9)):
        axes.vlines(at, specific["low"], specific["high"], color=colour, linewidth=width, zorder=4)


def _part_look(part: str, codes: Sequence[str]) -> tuple[str, str]:
    """Colour and hatch of a part of the stack."""
    fixed = {WAS_BILINGUAL: ("#444444", ""), WAS_OTHER: (FAINT, ""), BORN: ("#EEEEEE", "")}
    if part in fixed:
        return fixed[part]
    place = list(codes).index(part)
    return look_of(place).colour, _HATCHES[place % len(_HATCHES)]


def _event_handles() -> list[Line2D]:
    return [handle(_EVENT_NAMES[event], *_EVENT_LOOKS[event]) for event in _EVENT_LOOKS]


def _part_handles(looks: Mapping[str, tuple[str, str]]) -> list[Patch]:
    names = {
        WAS_BILINGUAL: "bilingual: was so before",
        WAS_OTHER: "bilingual: other or no label before",
        BORN: "bilingual: born here",
    }
    return [
        bar_handle(names.get(part, f"bilingual: was {part} before"), *look)
        for part, look in looks.items()
    ]
