"""What knockouts say of labels, layers and two models, from counts that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from glossogenesis.errors import StudyError
from glossogenesis.patching.knockout_rows import KNOCKOUT_SCHEMA, knockout_rows
from glossogenesis.patching.knockout_schemas import (
    COMPARISON_SCHEMA,
    LABEL_COMPARISON_SCHEMA,
    LABEL_SCHEMA,
    LAYER_SCHEMA,
)
from glossogenesis.patching.knockout_sets import FeatureSet
from glossogenesis.patching.knockout_summary import (
    best_layer,
    compare_labels,
    compare_models,
    cross_fitted,
    label_drops,
    layer_drops,
)
from glossogenesis.statistics.intervals import Bootstrap, wilson_interval

PATH = Path("knockout.parquet")
BOOTSTRAP = Bootstrap(resamples=500, seed=1)
N = 60


def row(layer: int, label: str, condition: str, lost: int, **changes: Any) -> dict[str, Any]:
    """A row of 60 posts, all right before."""
    n = changes.pop("n", N)
    gained = changes.get("gained", 0)
    before = changes.get("correct_before", n)
    return {
        "layer": layer,
        "label": label,
        "condition": condition,
        "draw": 0,
        "other_label": None,
        "features": 0 if condition == "none" else 20,
        "n": n,
        "correct_before": before,
        "correct_after": before - lost + gained,
        "lost": lost,
        "gained": gained,
        "logit_change": -lost / 10 if n else None,
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


def test_rows_count_what_is_lost_and_gained() -> None:
    before = np.array([[2, 1, 0], [0, 1, 2], [3, 1, 0], [1, 5, 0]], dtype=np.float32)
    after = np.array([[0, 1, 0], [4, 1, 2], [3, 1, 0], [0, 5, 0]], dtype=np.float32)
    chosen = FeatureSet("other", 1, "b", np.arange(7))
    found = knockout_rows(2, "a", 0, [chosen], before, after[None])
    table = pl.DataFrame(found, schema=KNOCKOUT_SCHEMA)
    assert table.row(0, named=True) == {
        "layer": 2,
        "label": "a",
        "condition": "other",
        "draw": 1,
        "other_label": "b",
        "features": 7,
        "n": 4,
        "correct_before": 2,
        "correct_after": 2,
        "lost": 1,
        "gained": 1,
        "logit_change": pytest.approx((-2 + 4 + 0 - 1) / 4),
    }
    nothing = knockout_rows(2, "a", 0, [chosen], before[:0], after[None, :0])
    assert (nothing[0]["n"], nothing[0]["logit_change"]) == (0, None)


def test_drop_of_a_label_with_its_interval_and_controls() -> None:
    table = drops(*label_rows(1, "a", 30, matched=(6, 12)))
    assert table.schema == LABEL_SCHEMA
    assert table["condition"].to_list() == ["top", "random", "frequency", "other", "net"]
    top = one(table, condition="top")
    assert (top["recall_before"], top["recall_after"]) == (1.0, 0.5)
    assert (top["delta"], top["relative"], top["draws"]) == (-50.0, -0.5, None)
    low, high = wilson_interval([30], [N])
    assert top["low"] == pytest.approx(100 * (low[0] - 1), abs=1)
    assert top["high"] == pytest.approx(100 * (high[0] - 1), abs=2.5)
    matched = one(table, condition="frequency")
    assert (matched["delta"], matched["minimum"], matched["maximum"]) == (-15.0, -20.0, -10.0)
    assert (matched["draws"], matched["low"], matched["features"]) == (2, None, 20.0)
    net = one(table, condition="net")
    assert (net["delta"], net["recall_after"]) == (-35.0, None)
    assert net["logit_change"] == pytest.approx(-3.0 + 0.9)


def test_gained_posts_count_against_lost_ones() -> None:
    table = drops(row(1, "a", "top", 6, correct_before=30, gained=3))
    top = one(table, condition="top")
    assert (top["delta"], top["recall_before"]) == (pytest.approx(-5.0), 0.5)
    assert top["relative"] == pytest.approx(-0.1)
    assert top["low"] < -5 < 0 < top["high"]


def test_labels_that_cannot_be_measured() -> None:
    table = drops(
        row(1, "none held out", "top", 0, n=0),
        row(1, "never right", "top", 0, correct_before=0),
        row(1, "no features", "top", 0, features=0),
        *label_rows(1, "usual", 60),
    )
    unmeasured = one(table, label="none held out", condition="top")
    assert [unmeasured[name] for name in ("recall_before", "delta", "low", "relative")] == [
        None
    ] * 4
    never = one(table, label="never right", condition="top")
    assert (never["delta"], never["relative"]) == (0.0, None)
    # Nothing is removed, so nothing is lost beyond a control.
    assert one(table, label="no features", condition="net")["delta"] == 0.0
    layers = layer_drops(table, bootstrap=BOOTSTRAP)
    top = one(layers, condition="top")
    assert (top["labels"], top["without_features"]) == (3, 1)
    assert top["delta"] == pytest.approx(-100 / 3)


def test_layers_and_the_best_of_them() -> None:
    table = drops_of({1: {"a": 6, "b": 12, "c": 0}, 3: {"a": 60, "b": 30, "c": 30}, 5: {"a": 6}})
    layers = layer_drops(table, bootstrap=BOOTSTRAP)
    assert layers.schema == LAYER_SCHEMA
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
    top = chosen.filter(condition="top")
    # `a` has its largest drop at layer 1 and is looked at where `b` has, at layer 2; and so `b`.
    assert top.select("label", "layer", "delta").rows() == [("a", None, -20.0), ("b", None, -10.0)]


def test_the_best_of_layers_that_are_alike_is_not_better_than_they_are() -> None:
    """The largest of 12 equal means is too large by 1.6 of their errors; the chosen one is not."""
    generator = np.random.default_rng(0)
    largest, fitted = [], []
    for _ in range(60):
        lost = generator.binomial(N, 0.3, size=(12, 8))
        table = drops_of({layer: dict(zip("abcdefgh", row.tolist())) for layer, row in enumerate(lost)})
        top = table.filter(condition="top")
        largest.append(top.group_by("layer").agg(pl.col("delta").mean())["delta"].min())
        fitted.append(cross_fitted(table).filter(condition="top")["delta"].mean())
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
