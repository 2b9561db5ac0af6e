"""What knockouts say of labels, layers and two models, from counts that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.knockout.sets import (
    KNOCKOUT_SCHEMA,
    FeatureSet,
    LayerPredictions,
    knockout_rows,
)
from glossogenesis.robustness.knockout.summary import (
    COMPARISON_SCHEMA,
    LABEL_COMPARISON_SCHEMA,
    LABEL_SCHEMA,
    LAYER_SCHEMA,
    best_layer,
    compare_labels,
    compare_models,
    cross_fitted,
    label_drops,
    layer_drops,
)
from glossogenesis.robustness.scores import scores_of
from glossogenesis.statistics.intervals import Bootstrap, wilson_interval

PATH = Path("knockout.parquet")
BOOTSTRAP = Bootstrap(resamples=500, seed=1)
N = 60
ALL = 240


def row(layer: int, label: str, condition: str, lost: int, **changes: Any) -> dict[str, Any]:
    """A row of 60 posts of a label and 240 of all, all right before; others gain what is lost."""
    n = changes.pop("n", N)
    gained = changes.get("gained", 0)
    before = changes.get("correct_before", n)
    after = before - lost + gained
    others = ALL - N
    return {
        "layer": layer,
        "label": label,
        "condition": condition,
        "draw": 0,
        "other_label": None,
        "features": 0 if condition == "none" else 20,
        "n": n,
        "correct_before": before,
        "correct_after": after,
        "lost": lost,
        "gained": gained,
        "logit_change": -lost / 10 if n else None,
        "all_n": n + others,
        "all_correct_before": before + others,
        "all_correct_after": after + others,
        "all_lost": lost,
        "all_gained": gained,
        "macro_f1_before": 0.9,
        "macro_f1_after": 0.9 - lost / 200,
        "macro_f1_low": -lost / 100,
        "macro_f1_high": 0.0,
        "false_before": 6,
        "false_after": 6 - lost // 10,
        "false_lost": lost // 10,
        "false_gained": 0,
        **changes,
    }


def label_rows(layer: int, label: str, lost: int, matched: tuple[int, int] = (0, 0)) -> list[Any]:
    """What a label loses by its top features, and by two sets that fire as often."""
    return [
        row(layer, label, "none", 0),
        row(layer, label, "top", lost),
        row(layer, label, "random", 0),
        *(row(layer, label, "frequency", each, draw=draw) for draw, each in enumerate(matched)),
        row(layer, label, "other", 3, other_label="z"),
    ]


def drops(*rows: Any) -> pl.DataFrame:
    return label_drops(pl.DataFrame(list(rows), schema=KNOCKOUT_SCHEMA), PATH)


def drops_of(lost: dict[int, dict[str, int]]) -> pl.DataFrame:
    """Of posts lost by layer and label."""
    return drops(
        *(
            each
            for layer, labels in lost.items()
            for label, number in labels.items()
            for each in label_rows(layer, label, number)
        )
    )


def one(table: pl.DataFrame, **keys: Any) -> dict[str, Any]:
    found = table.filter(**keys)
    assert found.height == 1
    return found.row(0, named=True)


def test_rows_count_what_becomes_of_posts() -> None:
    labels = ["a", "b", "c"]
    sets = [
        FeatureSet("none", None, 0, np.arange(0)),
        FeatureSet("top", "a", 0, np.arange(7)),
        FeatureSet("frequency", "a", 1, np.arange(3)),
        FeatureSet("top", "b", 0, np.arange(2)),
        FeatureSet("top", "c", 0, np.arange(0)),
    ]
    true, before = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    after = np.array([before, [0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 0, 2], [0, 0, 1, 2, 0, 2], before])
    change = np.arange(30, dtype=np.float32).reshape(5, 6)
    given = LayerPredictions(2, labels, sets, true, before, after, change)
    table = pl.DataFrame(list(knockout_rows(given, BOOTSTRAP)), schema=KNOCKOUT_SCHEMA)
    keys = table.select("label", "condition", "other_label").rows()
    assert keys == [
        *[("a", "none", None), ("a", "top", None), ("a", "frequency", None), ("a", "other", "b")],
        *[("b", "none", None), ("b", "other", "a"), ("b", "top", None)],
        # Nothing is removed for c, which has no controls.
        *[("c", "none", None), ("c", "top", None)],
    ]
    top = one(table, label="a", condition="top")
    low, high = top.pop("macro_f1_low"), top.pop("macro_f1_high")
    # F1 of a, b and c: 2/3, 1/2, 1 before; 2/3, 4/5, 0 after.
    difference = (2 / 3 + 4 / 5) / 3 - (2 / 3 + 1 / 2 + 1) / 3
    assert low < difference < high
    assert top == {
        "layer": 2,
        "label": "a",
        "condition": "top",
        "draw": 0,
        "other_label": None,
        "features": 7,
        **{"n": 3, "correct_before": 2, "correct_after": 2, "lost": 1, "gained": 1},
        "logit_change": 7.0,
        **{"all_n": 6, "all_correct_before": 4, "all_correct_after": 4},
        **{"all_lost": 2, "all_gained": 2},
        "macro_f1_before": pytest.approx((2 / 3 + 1 / 2 + 1) / 3),
        "macro_f1_after": pytest.approx((2 / 3 + 4 / 5) / 3),
        **{"false_before": 1, "false_after": 1, "false_lost": 1, "false_gained": 1},
    }
    own_alone = one(table, label="a", condition="frequency")
    assert (own_alone["correct_after"], own_alone["lost"]) == (0, 2)
    assert [own_alone[name] for name in ("all_n", "macro_f1_after", "false_after")] == [None] * 3
    others = one(table, label="b", condition="other")
    assert (others["features"], others["correct_after"], others["all_lost"]) == (7, 2, 2)


def test_a_label_without_posts_has_rows_without_shares() -> None:
    sets = [FeatureSet("top", "a", 0, np.arange(7)), FeatureSet("top", "b", 0, np.arange(1))]
    true = np.zeros(2, dtype=np.int64)
    after = np.array([[0, 1], [0, 0]])
    change = np.zeros((2, 2), dtype=np.float32)
    given = LayerPredictions(0, ["a", "b"], sets, true, true, after, change)
    table = pl.DataFrame(list(knockout_rows(given, BOOTSTRAP)), schema=KNOCKOUT_SCHEMA)
    empty = one(table, label="b", condition="other")
    assert (empty["n"], empty["logit_change"], empty["false_gained"]) == (0, None, 1)


def test_interval_of_macro_f1_is_that_of_resampled_posts() -> None:
    generator = np.random.default_rng(4)
    true = np.repeat(np.arange(3), 30)
    before, after = (
        np.where(generator.random(90) < right, true, generator.integers(0, 3, 90))
        for right in (0.9, 0.5)
    )
    change = np.zeros((1, 90), dtype=np.float32)
    sets = [FeatureSet("top", "a", 0, np.arange(7))]
    given = LayerPredictions(0, list("abc"), sets, true, before, after[None], change)
    row = next(iter(knockout_rows(given, Bootstrap(2000))))
    resampled = []
    for chosen in generator.integers(0, 90, (2000, 90)):
        scores = [scores_of(true[chosen], part[chosen]).macro_f1 for part in (before, after)]
        resampled.append(scores[1] - scores[0])
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert (row["macro_f1_low"], row["macro_f1_high"]) == pytest.approx((low, high), abs=0.02)
    assert row["macro_f1_before"] == pytest.approx(scores_of(true, before).macro_f1)


def test_drop_of_a_label_with_its_interval_and_controls() -> None:
    table = drops(*label_rows(1, "a", 30, matched=(6, 12)))
    assert table.schema == LABEL_SCHEMA
    recall = table.filter(measure="recall")
    assert recall["condition"].to_list() == ["top", "random", "frequency", "other", "net"]
    top = one(recall, condition="top")
    assert (top["before"], top["after"]) == (1.0, 0.5)
    assert (top["delta"], top["relative"], top["draws"]) == (-50.0, -0.5, None)
    low, high = wilson_interval([30], [N])
    assert top["low"] == pytest.approx(100 * (low[0] - 1), abs=1)
    assert top["high"] == pytest.approx(100 * (high[0] - 1), abs=2.5)
    matched = one(recall, condition="frequency")
    assert (matched["delta"], matched["minimum"], matched["maximum"]) == (-15.0, -20.0, -10.0)
    assert (matched["draws"], matched["low"], matched["features"]) == (2, None, 20.0)
    net = one(recall, condition="net")
    assert (net["delta"], net["after"]) == (-35.0, None)
    logits = table.filter(measure="logit")
    assert one(logits, condition="net")["delta"] == pytest.approx(-3.0 + 0.9)


def test_what_becomes_of_all_posts_stands_beside_recall() -> None:
    table = drops(*label_rows(1, "a", 30, matched=(6, 12)))
    accuracy = one(table, condition="top", measure="accuracy")
    assert (accuracy["n"], accuracy["before"], accuracy["after"]) == (240, 1.0, 0.875)
    assert accuracy["low"] < accuracy["delta"] == -12.5 < accuracy["high"]
    assert one(table, condition="net", measure="accuracy")["delta"] == pytest.approx(-12.5 + 3.75)
    f1 = one(table, condition="top", measure="macro_f1")
    assert (f1["delta"], f1["low"], f1["high"]) == pytest.approx((-15, -30, 0))
    false = one(table, condition="top", measure="false_positives")
    assert (false["n"], false["before"]) == (180, 6 / 180)
    assert false["delta"] == pytest.approx(-100 * 3 / 180)
    assert false["low"] < false["delta"] < false["high"]
    # Another label's features have that label's accuracy, but false positives of this one.
    other = table.filter(condition="other")["measure"].to_list()
    assert other == ["recall", "false_positives", "logit"]


def test_random_features_are_no_sample_of_labels() -> None:
    random = [
        row(1, label, "random", lost, draw=draw, correct_before=60)
        for label in "abc"
        for draw, lost in enumerate((0, 6))
    ]
    table = drops(*(each for label in "abc" for each in label_rows(1, label, 30)[:2]), *random)
    layers = layer_drops(table, bootstrap=BOOTSTRAP)
    found = one(layers, condition="random", measure="accuracy")
    assert (found["low"], found["high"], found["draws"]) == (-2.5, 0.0, 2)
    assert (found["delta"], found["p"], found["lowest"]) == (-1.25, None, None)
    assert one(layers, condition="top", measure="accuracy")["p"] == 2 / 2**3


def test_gained_posts_count_against_lost_ones() -> None:
    table = drops(row(1, "a", "top", 6, correct_before=30, gained=3))
    top = one(table, condition="top", measure="recall")
    assert (top["delta"], top["before"]) == (pytest.approx(-5.0), 0.5)
    assert top["relative"] == pytest.approx(-0.1)
    assert top["low"] < -5 < 0 < top["high"]


def test_labels_that_cannot_be_measured() -> None:
    table = drops(
        row(1, "none held out", "top", 0, n=0),
        row(1, "never right", "top", 0, correct_before=0),
        row(1, "no features", "top", 0, features=0),
        *label_rows(1, "usual", 60),
    )
    recall = table.filter(measure="recall")
    unmeasured = one(recall, label="none held out", condition="top")
    assert [unmeasured[name] for name in ("before", "delta", "low", "relative")] == [None] * 4
    never = one(recall, label="never right", condition="top")
    assert (never["delta"], never["relative"]) == (0.0, None)
    # Nothing is removed, so nothing is lost beyond a control.
    assert one(recall, label="no features", condition="net")["delta"] == 0.0
    layers = layer_drops(recall, bootstrap=BOOTSTRAP)
    top = one(layers, condition="top")
    assert (top["labels"], top["without_features"]) == (3, 1)
    assert top["delta"] == pytest.approx(-100 / 3)


def test_layers_and_the_best_of_them() -> None:
    table = drops_of({1: {"a": 6, "b": 12, "c": 0}, 3: {"a": 60, "b": 30, "c": 30}, 5: {"a": 6}})
    found = layer_drops(table, bootstrap=BOOTSTRAP)
    assert found.schema == LAYER_SCHEMA
    layers = found.filter(measure="recall")
    assert best_layer(table) == 3
    top = one(layers, layer=3, condition="top")
    assert top["delta"] == pytest.approx(-200 / 3)
    assert top["low"] <= top["delta"] <= top["high"]
    assert top["p"] == 2 / 2**3
    assert (top["lowest"], top["highest"]) == (-75.0, -50.0)
    assert (top["lowest_without"], top["highest_without"]) == ("b", "a")
    assert one(layers, layer=3, condition="other")["delta"] == pytest.approx(-5.0)
    single = one(layers, layer=5, condition="top")
    assert (single["p"], single["low"], single["lowest"]) == (1.0, None, None)


def test_of_equal_layers_the_earlier_is_best() -> None:
    assert best_layer(drops_of({4: {"a": 6, "b": 0}, 2: {"a": 0, "b": 6}, 3: {"a": 3}})) == 2


FIRST = {1: {"a": 6, "b": 6, "c": 12}, 3: {"a": 30, "b": 30, "c": 30}}
OTHER = {1: {"a": 12, "b": 12, "c": 18, "d": 60}, 3: {"a": 0, "b": 0, "c": 0, "d": 0}}


def test_two_models_at_their_best_layers_and_at_equal_ones() -> None:
    first, other = drops_of(FIRST), drops_of(OTHER)
    table = compare_models(first, other, bootstrap=BOOTSTRAP)
    assert table.schema == COMPARISON_SCHEMA
    keys = table.select("rule", "condition", "layer_first", "layer_other")
    assert keys.rows() == [
        (rule, condition, *layers)
        for rule, layers in (("best", (None, None)), ("equal", (1, 1)), ("equal", (3, 3)))
        for condition in ("top", "net")
    ]
    assert table["labels"].to_list() == [3] * 6
    equal = one(table, rule="equal", condition="top", layer_first=1)
    assert (equal["difference"], equal["p"]) == (-10.0, 2 / 2**3)
    assert (equal["lowest"], equal["highest"], equal["sign_flips"]) == (-10.0, -10.0, False)
    best = one(table, rule="best", condition="top")
    assert best["difference"] == pytest.approx(-70 / 3 + 150 / 3)


def test_one_label_can_turn_the_sign() -> None:
    first = drops_of({1: {"a": 6, "b": 6, "c": 60}})
    other = drops_of({1: {"a": 12, "b": 12, "c": 6}})
    found = one(compare_models(first, other, bootstrap=BOOTSTRAP), rule="equal", condition="top")
    assert found["difference"] == pytest.approx((-10 - 10 + 90) / 3)
    assert (found["lowest"], found["lowest_without"], found["sign_flips"]) == (-10.0, "c", True)
    labels = compare_labels(first, other).filter(rule="equal", condition="top")
    assert labels.schema == LABEL_COMPARISON_SCHEMA
    assert labels.select("label", "first", "other", "difference").rows() == [
        ("a", -10.0, -20.0, -10.0),
        ("b", -10.0, -20.0, -10.0),
        ("c", -100.0, -10.0, 90.0),
    ]


def test_models_without_a_common_layer_are_compared_at_their_best() -> None:
    first, other = drops_of({1: {"a": 6, "b": 12}}), drops_of({2: {"a": 12, "b": 18}})
    found = compare_models(first, other, bootstrap=BOOTSTRAP)
    assert found["rule"].to_list() == ["best", "best"]
    assert (found["difference"][0], found["p"][0]) == (-10.0, 2 / 2**2)
    # A single label has no other to choose its layer.
    single = compare_models(drops_of({1: {"a": 6}}), drops_of({2: {"a": 12}}), bootstrap=BOOTSTRAP)
    assert single.is_empty()


def test_a_layer_that_labels_choose_is_reported_on_others() -> None:
    chosen = cross_fitted(drops_of({1: {"a": 60, "b": 6}, 2: {"a": 12, "b": 30}}))
    top = chosen.filter(condition="top", measure="recall")
    # `a` has its largest drop at layer 1 and is looked at where `b` has, at layer 2; and so `b`.
    assert top.select("label", "layer", "delta").rows() == [("a", None, -20.0), ("b", None, -10.0)]


def test_the_best_of_layers_that_are_alike_is_not_better_than_they_are() -> None:
    """The largest of 12 equal means is too large by 1.6 of their errors; the chosen one is not."""
    generator = np.random.default_rng(0)
    largest, fitted = [], []
    for _ in range(60):
        lost = generator.binomial(N, 0.3, size=(12, 8))
        table = drops_of(
            {
                layer: dict(zip("abcdefgh", row.tolist(), strict=True))
                for layer, row in enumerate(lost)
            }
        )
        top = table.filter(condition="top", measure="recall")
        largest.append(top.group_by("layer").agg(pl.col("delta").mean())["delta"].min())
        chosen = cross_fitted(table).filter(condition="top", measure="recall")
        fitted.append(chosen["delta"].mean())
    error = 100 * np.sqrt(0.3 * 0.7 / N / 8)
    assert np.mean(largest) < -30 - 1.2 * error
    assert np.mean(fitted) == pytest.approx(-30, abs=3 * error / np.sqrt(60))


def test_nothing_gives_empty_tables() -> None:
    nothing = drops()
    some = drops_of({1: {"a": 6}})
    assert nothing.schema == LABEL_SCHEMA
    assert layer_drops(nothing, bootstrap=BOOTSTRAP).schema == LAYER_SCHEMA
    assert best_layer(nothing) is None
    compared = compare_models(nothing, some, bootstrap=BOOTSTRAP)
    assert (compared.schema, compared.height) == (COMPARISON_SCHEMA, 0)
    assert compare_labels(some, nothing).height == 0


def test_another_table_is_refused() -> None:
    with pytest.raises(StudyError, match=r"knockout.parquet: not a table of knockouts"):
        label_drops(pl.DataFrame({"layer": [1]}), PATH)
