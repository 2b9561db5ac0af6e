"""Figures of the concepts study: the frames behind them, and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from drawn_figures import check_pages, check_program, drawn, legend_texts
from glossogenesis.errors import StudyError
from glossogenesis.figures.concept_frames import (
    Languages,
    best_start_layer,
    outcome_frame,
    patched_frame,
    start_layer_frame,
    unpatched_frame,
)
from glossogenesis.figures.concepts import (
    OUTCOME_NAMES,
    plot_outcomes,
    plot_patched_accuracy,
    plot_start_layers,
    plot_unpatched_accuracy,
    setting_names,
)
from glossogenesis.patching.scoring import OUTCOMES

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


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Accuracy and outcomes of 4 checkpoints, 5 pairs, 5 settings and 3 start layers."""
    accuracy, outcomes = [], []
    for step in STEPS:
        for place, (given, asked) in enumerate(PAIRS):
            for setting in SETTINGS if given not in (asked, "sw") else SETTINGS[:1]:
                for layer in (None,) if "unpatched" in setting else (0, 1, 2):
                    keys = ["demo", f"step{step}", step, step * 4096, 1 + (step > 8)]
                    keys += [setting, given, asked, layer]
                    correct = hits(step, place, setting, layer)
                    share = correct / N
                    ends = [share * 0.8, share * 0.8 + 0.2]
                    accuracy.append([*keys, "all", N, correct, share, *ends])
                    counts = [correct - 1, 1, 0, 2, 0, N - correct - 2]
                    if correct == 0:
                        counts = [0, 0, 0, 0, 0, N]
                    for outcome, count in zip(OUTCOMES, counts, strict=True):
                        outcomes.append([*keys, outcome, N, count, count / N, 0.0, 1.0])
    facts = ["model", "checkpoint", "step", "tokens", "phase"]
    keys = [*facts, "setting", "input_language", "output_language", "start_layer"]
    return (
        pl.DataFrame(
            accuracy, [*keys, "subset", "n", "correct", "accuracy", "low", "high"], orient="row"
        ),
        pl.DataFrame(
            outcomes, [*keys, "outcome", "n", "count", "share", "low", "high"], orient="row"
        ),
    )


ACCURACY, OUTCOME_SHARES = tables()


def test_unpatched_frame_pools_pairs_by_kind() -> None:
    frame = unpatched_frame(ACCURACY, LANGUAGES)
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
    pooled = last.filter(kind="no_pivot").row(0, named=True)
    assert pooled["low"] == pytest.approx((0.8 * 14 / 20 + 0.8 * 15 / 20) / 2)
    assert pooled["n"] == 40


def test_a_pooled_end_is_null_where_a_pair_has_none() -> None:
    partly = ACCURACY.with_columns(
        low=pl.when(pl.col("input_language") == "ja").then(None).otherwise("low")
    )
    frame = unpatched_frame(partly, LANGUAGES).filter(kind="no_pivot")
    assert frame["low"].null_count() == frame.height
    assert frame["high"].null_count() == 0
    plot_unpatched_accuracy(frame, LANGUAGES).canvas.draw()


def test_unpatched_lines_are_the_numbers_of_the_frame() -> None:
    frame = unpatched_frame(ACCURACY, LANGUAGES)
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
    without = ACCURACY.with_columns(tokens=pl.lit(None, pl.Int64))
    figure = plot_unpatched_accuracy(unpatched_frame(without, LANGUAGES), LANGUAGES)
    assert figure.axes[0].get_xlabel() == "training step"
    assert drawn(figure.axes[0], 0) == [[0.0, 8.0, 64.0, 512.0]]


def test_the_best_start_layer_is_that_of_seen_at_the_last_checkpoint() -> None:
    assert best_start_layer(ACCURACY) == 1
    tied = ACCURACY.with_columns(correct=pl.lit(3))
    assert best_start_layer(tied) == 0
    with pytest.raises(StudyError, match="no patched answers"):
        best_start_layer(ACCURACY.filter(pl.col("start_layer").is_null()))


def test_patched_panels_are_the_patched_pairs_in_the_order_of_the_study() -> None:
    frame = patched_frame(ACCURACY, 1, [("ru", "es"), ("es", "en"), ("ja", "es")])
    figure = plot_patched_accuracy(frame, LANGUAGES)
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
    frame = start_layer_frame(ACCURACY)
    figure = plot_start_layers(frame, LANGUAGES)
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


def test_pairs_with_an_unseen_language_are_not_pooled() -> None:
    accuracy, _ = tables()
    alone = start_layer_frame(accuracy.filter(pl.col("input_language") != "ja"))
    assert start_layer_frame(accuracy, unseen=("ja",)).equals(alone)
    only_unseen = accuracy.filter(input_language="ja")
    assert not start_layer_frame(only_unseen, unseen=("ja",)).is_empty()


def test_start_layers_of_one_setting_have_a_panel_a_pair() -> None:
    frame = start_layer_frame(ACCURACY, "pair", "copy")
    assert frame["panel"].unique(maintain_order=True).to_list() == ["es→en", "ja→es", "ru→es"]
    assert set(frame["setting"]) == {"copy", "src_unpatched"}
    with pytest.raises(StudyError, match="no answers of setting tgt"):
        start_layer_frame(ACCURACY, "pair", "tgt")


def test_outcome_bars_stack_to_one_and_start_with_correct() -> None:
    frame = outcome_frame(OUTCOME_SHARES, 1)
    totals = frame.group_by("panel", "checkpoint").agg(pl.col("value").sum())["value"]
    assert totals.to_list() == pytest.approx([1.0] * totals.len())
    figure = plot_outcomes(frame, LANGUAGES)
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
    unpatched = OUTCOME_SHARES.filter(pl.col("start_layer").is_null())
    frame = outcome_frame(unpatched, None)
    assert set(frame["panel"]) == {"tgt_unpatched", "src_unpatched"}
    with pytest.raises(StudyError, match="setting seen"):
        outcome_frame(unpatched, None, "pair")


def test_one_checkpoint_stands_side_by_side_with_bars() -> None:
    last = ACCURACY.filter(step=512)
    figure = plot_patched_accuracy(patched_frame(last, 1), LANGUAGES)
    figure.canvas.draw()
    places = [x[0] for x in drawn(figure.axes[0], 0)]
    assert places == sorted(set(places))
    assert len(figure.axes[0].collections) == 4
    for other in (
        plot_unpatched_accuracy(unpatched_frame(last, LANGUAGES), LANGUAGES),
        plot_start_layers(start_layer_frame(last), LANGUAGES),
        plot_outcomes(outcome_frame(OUTCOME_SHARES.filter(step=512), 1), LANGUAGES),
    ):
        other.canvas.draw()


def test_tables_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(StudyError, match="tgt_unpatched"):
        unpatched_frame(ACCURACY.filter(setting="seen"), LANGUAGES)
    few = Languages({"en": "pivot"}, frozenset(), "en")
    with pytest.raises(StudyError, match="language 'es'"):
        unpatched_frame(ACCURACY, few)


def test_nothing_is_cut_off_and_no_text_is_below_seven_points() -> None:
    one_pair = ACCURACY.filter(input_language="ru")
    check_pages(
        [
            plot_unpatched_accuracy(unpatched_frame(ACCURACY, LANGUAGES), LANGUAGES),
            plot_patched_accuracy(patched_frame(ACCURACY, 1), LANGUAGES),
            plot_start_layers(start_layer_frame(ACCURACY), LANGUAGES),
            plot_outcomes(outcome_frame(OUTCOME_SHARES, 1), LANGUAGES),
            plot_patched_accuracy(patched_frame(one_pair, 1), LANGUAGES),
            plot_outcomes(outcome_frame(OUTCOME_SHARES, 1).filter(panel="seen"), LANGUAGES),
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
    tables = {"concepts_accuracy": ACCURACY, "concepts_outcomes": OUTCOME_SHARES}
    names = ("unpatched_accuracy", "patched_accuracy", "start_layers", "outcomes")
    check_program([f"demo/{name}" for name in names], settings, tables, tmp_path)
