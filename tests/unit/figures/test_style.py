"""The style and how figures are saved."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
import polars as pl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from glossogenesis.figures.panels import (
    checkpoint_colours,
    draw_training_axis,
    even_places,
    handle,
    legend_below,
    short_number,
    training_axis,
)
from glossogenesis.figures.style import (
    MARKERS,
    PALETTE,
    look_of,
    new_figure,
    paper_style,
    save_figure,
)

DATA = pl.DataFrame({"language": ["es", "ja"], "value": [0.1, 1 / 3]})


def small_figure() -> Figure:
    with paper_style():
        figure = new_figure(2, 1.5)
        axes = figure.subplots()
        axes.fill_between([0, 1], [0.2, 0.3], [0.4, 0.5])
        axes.set_title("Русский es → ja")
    return figure


def test_saved_figures_are_the_same_bytes_and_hold_their_text_and_data(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_figure(small_figure(), tmp_path / name / "model-1.7b", DATA)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["model-1.7b.csv", "model-1.7b.pdf", "model-1.7b.svg"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    svg = (tmp_path / "a" / "model-1.7b.svg").read_text(encoding="utf-8")
    assert ">Русский es → ja</text>" in svg
    assert "<dc:date>" not in svg
    assert pl.read_csv(tmp_path / "a" / "model-1.7b.csv").equals(DATA)


def test_the_style_leaves_nothing_behind() -> None:
    before = dict(matplotlib.rcParams)
    small_figure()
    assert dict(matplotlib.rcParams) == before


def test_looks_differ_beyond_the_palette_and_never_by_colour_alone() -> None:
    looks = [look_of(place) for place in range(24)]
    assert len(set(looks)) == 24
    assert len(set(PALETTE)) == len(set(MARKERS)) == 12


def test_checkpoint_colours_darken_in_grey() -> None:
    for number in (1, 2, 26):
        greys = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in checkpoint_colours(number)]
        assert greys == sorted(greys, reverse=True)
    assert all(sum(to_rgb(colour)) < 2.5 for colour in PALETTE)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1152, "1152"), (65536, "65.5k"), (4.72e6, "4.72M"), (48e9, "48B"), (3e12, "3T")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


def stops(steps: list[int], phases: list[int], tokens: list[int | None] | None = None):
    return pl.DataFrame(
        {
            "checkpoint": [str(step) for step in steps],
            "step": steps,
            "tokens": pl.Series(tokens or [None] * len(steps), dtype=pl.Int64),
            "phase": phases,
        }
    )


def test_phases_change_halfway_on_the_axis() -> None:
    axis = training_axis(stops([0, 4, 100, 400], [1, 1, 2, 3]))
    assert axis.boundaries == ((20.0, 1, 2), (200.0, 2, 3))
    assert training_axis(stops([0, 4], [1, 2])).boundaries == ((2.0, 1, 2),)
    assert training_axis(stops([5], [2])).boundaries == ()


@pytest.mark.parametrize(
    ("steps", "scale", "ticks"),
    [
        ([0, 16, 128, 1152], "symlog", ["0", "100", "1000"]),
        ([1000, 10000, 100000, 600000], "log", ["1000", "10k", "100k"]),
        ([20000, 60000], "log", ["20k", "50k"]),
        ([21000, 23000], "log", ["21k", "23k"]),
        ([0, 7], "symlog", ["0", "7"]),
        ([0], "linear", ["0"]),
        ([512], "linear", ["512"]),
        ([10**place for place in range(9)], "log", ["100", "100k", "100M"]),
    ],
)
def test_ticks_of_the_training_axis(steps: list[int], scale: str, ticks: list[str]) -> None:
    with paper_style():
        axes = new_figure(2, 1.5).subplots()
        draw_training_axis(axes, training_axis(stops(steps, [1] * len(steps))))
        axes.figure.canvas.draw()
    assert axes.get_xscale() == scale
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert shown == ticks
    low, high = axes.get_xlim()
    assert low <= steps[0] or len(steps) == 1
    assert high > steps[-1] or len(steps) == 1


def test_even_places_hold_both_ends() -> None:
    assert even_places(3, 6) == [0, 1, 2]
    assert even_places(12, 6) == [0, 2, 4, 7, 9, 11]
    assert even_places(1, 6) == [0]


LABELS = ["r/$AMC$", "r/$$", "r/$TSLA_$", "$x^", "_a_b", "r/{brace}", "\\alpha", "%d", "&<tag>"]


@pytest.mark.parametrize("label", LABELS)
def test_any_label_is_drawn_as_it_is_written(tmp_path: Path, label: str) -> None:
    with paper_style():
        figure = new_figure(4, 4)
        axes = figure.subplots()
        axes.set_title(label)
        axes.set_xlabel(label)
        axes.set_yticks([0, 1], [label, "other"])
        axes.annotate(label, (0.5, 0.5))
        legend_below(figure, [handle(label, look_of(0), "-")])
    save_figure(figure, tmp_path / "labels", DATA)
    svg = (tmp_path / "labels.svg").read_text(encoding="utf-8")
    assert svg.count(f">{escape(label)}</text>") == 5
    assert "mathdefault" not in svg


def test_a_scale_of_powers_of_ten_has_plain_labels(tmp_path: Path) -> None:
    rows = pl.DataFrame({"step": [1, 100, 100_000], "tokens": [None] * 3, "phase": [1, 1, 1]})
    with paper_style():
        figure = new_figure(3, 2)
        draw_training_axis(figure.subplots(), training_axis(rows))
    save_figure(figure, tmp_path / "axis", DATA)
    svg = (tmp_path / "axis.svg").read_text(encoding="utf-8")
    assert ">100k</text>" in svg
    assert "mathdefault" not in svg


def test_a_rectangle_that_moves_by_a_rounding_error_changes_no_byte(tmp_path: Path) -> None:
    written = []
    for number, shift in enumerate((0.0, 1e-13)):
        with paper_style():
            figure = new_figure(3, 2)
            # A clip rectangle is named by a digest of its coordinates.
            figure.set_layout_engine("none")
            axes = figure.add_axes((0.1 + shift, 0.1, 0.8, 0.8))
            axes.plot([0, 1], [0, 1])
        save_figure(figure, tmp_path / str(number), pl.DataFrame({"x": [0, 1]}))
        written.append((tmp_path / f"{number}.svg").read_bytes())
    assert written[0] == written[1]
