"""Figures of the concepts study: the frames behind them, and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from glossogenesis.concepts.comparisons import choose_layers, comparison_table, rows_at_chosen
from glossogenesis.concepts.figures import (
    OUTCOME_NAMES,
    plot_differences,
    plot_outcomes,
    plot_patched_accuracy,
    plot_start_layers,
    plot_unpatched_accuracy,
    setting_names,
)
from glossogenesis.concepts.frames import (
    Languages,
    difference_frame,
    outcome_frame,
    patched_frame,
    start_layer_frame,
    unpatched_frame,
)
from glossogenesis.concepts.scoring import PATCHING_SCHEMA
from glossogenesis.concepts.tables import accuracy_table, pooled_table
from glossogenesis.exceptions import StudyError
from glossogenesis.study.setups import CHECKPOINT_FACTS, with_checkpoint
from support.drawn_figures import check_pages, check_program, drawn, legend_texts

LANGUAGES = Languages(
    {"en": "pivot", "es": "early", "ru": "early", "ja": "late", "sw": "unseen"},
    unseen=frozenset({"sw"}),
    pivot="en",
)
PAIRS = [("es", "en"), ("en", "en"), ("ru", "es"), ("ja", "es"), ("sw", "es")]
STEPS = [0, 8, 64, 512]
SETTINGS = ["tgt_unpatched", "src_unpatched", "seen", "copy", "self"]
N = 20


def hits(step: int, pair: int, setting: str, layer: int | None) -> int:
    """Correct answers out of 20; patching works best from layer 1."""
    level = STEPS.index(step) * 4 + pair
    return max(0, level - (0 if layer is None else 3 * abs(layer - 1) + SETTINGS.index(setting)))


def answers(step: int, place: int, setting: str, layer: int | None) -> list[dict]:
    """20 items, each of a concept of its own; the first ones are right."""
    given, asked = PAIRS[place]
    correct = hits(step, place, setting, layer)
    outcomes = ["correct"] * (correct - 1) + ["synonym", "kept_target", "kept_target"]
    rows = []
    for item in range(N):
        outcome = outcomes[item] if correct and item < len(outcomes) else "other"
        expected = f"concept {item}" if setting not in ("tgt_unpatched", "self") else "target"
        rows.append(
            {
                "item": item,
                "setting": setting,
                "input_language": given,
                "output_language": asked,
                "start_layer": layer,
                "source_concept": f"concept {item}",
                "target_concept": f"target {item}",
                "expected_concept": f"{expected} {item}" if expected == "target" else expected,
                "answer": outcome,
                "correct": outcome in ("correct", "synonym"),
                "outcome": outcome,
                "copyable": False,
            }
        )
    return rows


def checkpoints() -> list[pl.DataFrame]:
    """Rows of 4 checkpoints, 5 pairs, 5 settings and 3 start layers, and at the chosen layers."""
    frames = []
    for step in STEPS:
        rows = []
        for place, (given, asked) in enumerate(PAIRS):
            for setting in SETTINGS if given not in (asked, "sw") else SETTINGS[:1]:
                for layer in (None,) if "unpatched" in setting else (0, 1, 2):
                    rows += answers(step, place, setting, layer)
        facts = [["demo", f"step{step}", step, step * 4096, 1 + (step > 8)]]
        frames.append(
            with_checkpoint(
                pl.DataFrame(rows, PATCHING_SCHEMA),
                pl.DataFrame(facts, CHECKPOINT_FACTS, orient="row"),
            )
        )
    chosen = choose_layers(frames[-1], "en", ["sw"], seed=1)
    assert chosen is not None
    assert chosen.name == "1|1"
    return [pl.concat([rows, rows_at_chosen(rows, chosen)]) for rows in frames]


ROWS = checkpoints()
ACCURACY = pl.concat(accuracy_table(rows) for rows in ROWS)
POOLED = pl.concat(pooled_table(rows, "en", ["sw"]) for rows in ROWS)
COMPARISONS = comparison_table(ROWS, "en", ["sw"])


def test_unpatched_frame_pools_pairs_by_kind() -> None:
    frame = unpatched_frame(POOLED, LANGUAGES)
    assert frame["kind"].unique(maintain_order=True).to_list() == [
        "copying",
        "pivot",
        "no_pivot",
        "unseen",
    ]
    last = frame.filter(step=512)
    shown = {
        (kind, code): (pairs, value)
        for kind, code, pairs, value in last.select(
            "kind", "output_language", "pairs", "value"
        ).rows()
    }
    assert shown == {
        ("copying", "en"): (1, 13 / 20),
        ("pivot", "en"): (1, 12 / 20),
        ("no_pivot", "es"): (2, (14 + 15) / 40),
        ("unseen", "es"): (1, 16 / 20),
    }
    assert last.filter(kind="no_pivot")["n"].to_list() == [40]
    null = frame.with_columns(low=pl.lit(None, pl.Float64))
    plot_unpatched_accuracy(null, LANGUAGES).canvas.draw()


def test_unpatched_lines_are_the_numbers_of_the_frame() -> None:
    frame = unpatched_frame(POOLED, LANGUAGES)
    figure = plot_unpatched_accuracy(frame, LANGUAGES)
    figure.canvas.draw()
    assert [axes.get_title() for axes in figure.axes][1:3] == [
        "translating:\npairs with en",
        "translating:\npairs without en",
    ]
    for axes, kind in zip(figure.axes, ["copying", "pivot", "no_pivot", "unseen"], strict=True):
        assert drawn(axes) == [frame.filter(kind=kind)["value"].to_list()]
        assert drawn(axes, 0) == [[0.0, 8 * 4096, 64 * 4096, 512 * 4096]]
        assert axes.get_xlabel() == "training tokens"
        assert [text.get_text() for text in axes.texts] == ["phase 1 | 2"]
    assert legend_texts(figure) == ["pivot:", "en", "early:", "es"]


def test_steps_are_shown_where_tokens_are_unknown() -> None:
    without = POOLED.with_columns(tokens=pl.lit(None, pl.Int64))
    figure = plot_unpatched_accuracy(unpatched_frame(without, LANGUAGES), LANGUAGES)
    assert figure.axes[0].get_xlabel() == "training step"
    assert drawn(figure.axes[0], 0) == [[0.0, 8.0, 64.0, 512.0]]


def test_patched_panels_are_the_patched_pairs_in_the_order_of_the_study() -> None:
    frame = patched_frame(ACCURACY, 1, [("ru", "es"), ("es", "en"), ("ja", "es")])
    figure = plot_patched_accuracy(frame, "en")
    figure.canvas.draw()
    assert [axes.get_title() for axes in figure.axes] == ["ru → es", "es → en", "ja → es"]
    names = setting_names("en")
    shown = ["tgt_unpatched", "src_unpatched", "seen", "copy"]
    assert legend_texts(figure) == [names[setting] for setting in shown]
    for line, setting in zip(drawn(figure.axes[0]), shown, strict=True):
        layer = None if "unpatched" in setting else 1
        assert line == [hits(step, 2, setting, layer) / N for step in STEPS]
    with pytest.raises(StudyError, match=r"start layer 7; .* one of 0, 1, 2"):
        patched_frame(ACCURACY, 7)


def test_start_layers_have_a_line_a_checkpoint_and_a_level_without_patch() -> None:
    frame = start_layer_frame(POOLED)
    figure = plot_start_layers(frame, "en")
    figure.canvas.draw()
    seen = figure.axes[0]
    assert seen.get_title() == "patched:\nmean of seen pairs"
    pooled = [
        [sum(hits(step, pair, "seen", layer) for pair in (0, 2, 3)) / (3 * N) for layer in range(3)]
        for step in STEPS
    ]
    assert np.allclose(drawn(seen), pooled)
    level = next(line for line in seen.get_lines() if line.get_marker() == "None")
    assert level.get_ydata()[0] == pytest.approx((12 + 14 + 15) / 60)
    assert len(seen.collections) == 2  # bands of the last checkpoint of each phase
    bar = figure.axes[-1]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["0", "32.8k", "262k", "2.1M"]


def test_the_chosen_layers_are_drawn_and_named() -> None:
    frame = patched_frame(ACCURACY, "best")
    at_one = patched_frame(ACCURACY, 1)
    assert frame["value"].to_list() == at_one["value"].to_list()
    assert frame["chosen_layers"].drop_nulls().unique().to_list() == ["1|1"]
    figure = plot_patched_accuracy(frame, "en")
    assert "chosen on the other half: layer 1" in figure.get_suptitle()
    assert plot_patched_accuracy(at_one, "en").get_suptitle() == "patched: start layer 1"
    differing = frame.with_columns(chosen_layers=pl.lit("1|2"))
    assert plot_patched_accuracy(differing, "en").get_suptitle().endswith(": layers 1 and 2")
    unpatched = ACCURACY.filter(pl.col("setting").str.contains("unpatched"))
    with pytest.raises(StudyError, match="no patched answers"):
        patched_frame(unpatched, "best")


def test_differences_are_the_rows_of_the_table() -> None:
    frame = difference_frame(COMPARISONS, "best", [("ru", "es")])
    figure = plot_differences(frame, "en")
    figure.canvas.draw()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["mean of seen pairs minus …", "change since the checkpoint before"]
    settings = frame.filter(panel="settings")
    assert settings["series"].unique(maintain_order=True).to_list() == ["src_unpatched", "copy"]
    row = settings.filter(series="src_unpatched", step=512).row(0, named=True)
    assert row["value"] == pytest.approx(-6 / 60)
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 60
    assert frame.filter(panel="training")["series"].unique(maintain_order=True).to_list() == [
        *["tgt_unpatched", "src_unpatched", "seen", "copy"]
    ]
    assert frame.filter(panel="pairs")["series"].to_list() == ["ru→es", "es→en", "ja→es"]
    filled = [
        line
        for line in figure.axes[2].get_lines()
        if line.get_marker() == "o" and line.get_markerfacecolor() != "white"
    ]
    survivors = frame.filter(panel="pairs")["survives"].sum()
    assert sum(len(line.get_xdata()) for line in filled) == survivors
    assert not frame.filter(panel="training")["survives"].all()
    alone = difference_frame(COMPARISONS.filter(step=0, comparison="setting"), 1)
    plot_differences(alone, "en").canvas.draw()


def test_outcome_bars_stack_to_one_and_start_with_correct() -> None:
    frame = outcome_frame(POOLED, 1)
    totals = frame.group_by("panel", "checkpoint").agg(pl.col("value").sum())["value"]
    assert totals.to_list() == pytest.approx([1.0] * totals.len())
    figure = plot_outcomes(frame, "en")
    figure.canvas.draw()
    happened = ["correct", "synonym", "kept_target", "other"]
    assert legend_texts(figure) == [OUTCOME_NAMES[outcome] for outcome in happened]
    assert len(figure.axes) == 4  # two unpatched settings, seen, copy; not self
    bars = figure.axes[2].patches
    assert len(bars) == len(happened) * len(STEPS)
    correct = [bar.get_height() for bar in bars[: len(STEPS)]]
    expected = frame.filter(panel="seen", outcome="correct")["value"].to_list()
    assert correct == pytest.approx(expected)
    tops = [bar.get_y() + bar.get_height() for bar in bars[-len(STEPS) :]]
    assert tops == pytest.approx([1.0] * len(STEPS))
    assert len({bar.get_hatch() for bar in bars}) > 2


def test_unpatched_outcomes_need_no_start_layer() -> None:
    frame = outcome_frame(POOLED, None)
    assert set(frame["panel"]) == {"tgt_unpatched", "src_unpatched"}
    with pytest.raises(StudyError, match="no pairs of two languages"):
        outcome_frame(POOLED.filter(pool="pivot"), None)


def test_one_checkpoint_stands_side_by_side_with_bars() -> None:
    last, pooled = ACCURACY.filter(step=512), POOLED.filter(step=512)
    figure = plot_patched_accuracy(patched_frame(last, 1), "en")
    figure.canvas.draw()
    places = [x[0] for x in drawn(figure.axes[0], 0)]
    assert places == sorted(set(places))
    assert len(figure.axes[0].collections) == 4
    for other in (
        plot_unpatched_accuracy(unpatched_frame(pooled, LANGUAGES), LANGUAGES),
        plot_start_layers(start_layer_frame(pooled), "en"),
        plot_outcomes(outcome_frame(pooled, 1), "en"),
    ):
        other.canvas.draw()


def test_tables_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(StudyError, match="tgt_unpatched"):
        unpatched_frame(POOLED.filter(setting="seen"), LANGUAGES)
    few = Languages({"en": "pivot"}, frozenset(), "en")
    with pytest.raises(StudyError, match="language 'es'"):
        unpatched_frame(POOLED, few)


def test_nothing_is_cut_off_and_no_text_is_below_seven_points() -> None:
    one_pair = ACCURACY.filter(input_language="ru")
    check_pages(
        [
            plot_unpatched_accuracy(unpatched_frame(POOLED, LANGUAGES), LANGUAGES),
            plot_patched_accuracy(patched_frame(ACCURACY, 1), "en"),
            plot_start_layers(start_layer_frame(POOLED), "en"),
            plot_outcomes(outcome_frame(POOLED, 1), "en"),
            plot_patched_accuracy(patched_frame(one_pair, "best"), "en"),
            plot_outcomes(outcome_frame(POOLED, 1).filter(panel="seen"), "en"),
            plot_differences(difference_frame(COMPARISONS, "best"), "en"),
        ]
    )


def test_the_program_draws_all_figures(tmp_path: Path) -> None:
    settings = {
        "models": {"demo": "Demo"},
        "languages": {
            code: {"group": group, "seen": code != "sw"} for code, group in LANGUAGES.groups.items()
        },
        "pivot": "en",
        "target_pairs": [["ru", "es"], ["es", "en"], ["ja", "es"]],
        "start_layer": "best",
    }
    tables = {
        "concepts_accuracy": ACCURACY,
        "concepts_pooled": POOLED,
        "concepts_comparisons": COMPARISONS,
    }
    names = ("unpatched_accuracy", "patched_accuracy", "start_layers", "outcomes")
    names = (*names, "concepts_differences")
    check_program([f"demo/{name}" for name in names], settings, tables, tmp_path)
