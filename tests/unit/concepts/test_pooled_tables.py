"""Shares over several language pairs, the layers that are chosen, and comparisons, by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from glossogenesis.concepts.comparisons import (
    COMPARISON_SCHEMA,
    choose_layers,
    comparison_table,
    rows_at_chosen,
)
from glossogenesis.concepts.scoring import PATCHING_SCHEMA
from glossogenesis.concepts.tables import POOLED_SCHEMA, accuracy_table, pooled_table, pools_of
from glossogenesis.statistics.clustered import ClusterSums, adjusted, clustered_share_interval
from glossogenesis.statistics.intervals import Bootstrap, bootstrap_ratios
from glossogenesis.study.setups import CHECKPOINT_FACTS, with_checkpoint

CONCEPTS = 40
TRANSLATED = (("es", "en"), ("es", "ru"), ("ru", "ja"))


def answers(
    pair: tuple[str, str], setting: str, layer: int | None, right: np.ndarray
) -> list[dict]:
    """One item a concept; `right` [concept] says which are answered correctly."""
    return [
        {
            "item": item,
            "setting": setting,
            "input_language": pair[0],
            "output_language": pair[1],
            "start_layer": layer,
            "expected_concept": f"concept {item:02d}",
            "answer": "x",
            "correct": bool(correct),
            "outcome": "correct" if correct else "other",
            "copyable": False,
        }
        for item, correct in enumerate(right)
    ]


def checkpoint(step: int, share: float, seed: int = 0) -> pl.DataFrame:
    """Answers that depend on the concept; layer 1 of `seen` is best, `copy` worse than `seen`."""
    generator = np.random.default_rng([seed, step])
    ease = np.random.default_rng(9).normal(size=CONCEPTS)
    rows = []

    def ask(pair: tuple[str, str], setting: str, layer: int | None, lost: float) -> None:
        noise = generator.normal(size=CONCEPTS)
        rows.extend(answers(pair, setting, layer, ease + noise < np.quantile(ease, share) - lost))

    for pair in TRANSLATED:
        ask(pair, "src_unpatched", None, 0)
        for layer in range(3):
            ask(pair, "seen", layer, 0.4 * abs(layer - 1))
            ask(pair, "copy", layer, 2)
    for pair in (*TRANSLATED, ("en", "en"), ("sw", "en")):
        ask(pair, "tgt_unpatched", None, 0)
    facts = [["demo", f"step{step}", step, None, 1 + (step > 20)]]
    return with_checkpoint(
        pl.DataFrame(rows, PATCHING_SCHEMA), pl.DataFrame(facts, CHECKPOINT_FACTS, orient="row")
    )


ROWS = [checkpoint(10, 0.1), checkpoint(20, 0.5), checkpoint(30, 0.5), checkpoint(40, 0.9)]


def test_pools_hold_the_pairs_that_belong_together() -> None:
    pools = pools_of(ROWS[0], "en", ["sw"])
    found = {
        key: sorted(part.select("input_language", "output_language").rows())
        for key, part in pools.group_by("setting", "pool", "pooled_output")
    }
    assert found["seen", "translation", None] == sorted(TRANSLATED)
    assert found["tgt_unpatched", "translation", None] == sorted(TRANSLATED)
    assert found["tgt_unpatched", "copying", "en"] == [("en", "en")]
    assert found["tgt_unpatched", "unseen", None] == [("sw", "en")]
    assert found["tgt_unpatched", "pivot", None] == [("es", "en")]
    assert found["tgt_unpatched", "no_pivot", None] == [("es", "ru"), ("ru", "ja")]
    assert ("seen", "pivot", None) not in found
    # Where all patched pairs have an unseen language, they are what there is.
    assert pools_of(ROWS[0], "en", ["es", "ru"]).filter(setting="seen").height == 3
    unpatched = ROWS[0].filter(setting="tgt_unpatched")
    whole = pools_of(unpatched, "en", ["sw"]).filter(pool="translation")
    assert whole.height == 3


def test_pairs_are_pooled_with_their_concepts_drawn_once() -> None:
    table = pooled_table(ROWS[1], "en", ["sw"])
    assert table.schema == POOLED_SCHEMA
    row = table.filter(pool="translation", setting="seen", start_layer=1, measure="accuracy").row(
        0, named=True
    )
    rows = ROWS[1].filter(setting="seen", start_layer=1)
    hits = rows.group_by("expected_concept").agg(pl.col("correct").sum()).sort("expected_concept")
    sums, counts = hits["correct"].cast(pl.Float64).to_numpy()[None], np.full((1, CONCEPTS), 3.0)
    low, high = clustered_share_interval(ClusterSums.of(sums, counts))
    assert (row["n"], row["pairs"]) == (3 * CONCEPTS, 3)
    assert row["share"] == pytest.approx(sums.sum() / 120)
    assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]))
    # As wide as when concepts are resampled jointly, and narrower than the mean of the pairs' ends.
    drawn = bootstrap_ratios(sums, counts, Bootstrap())
    assert row["high"] - row["low"] == pytest.approx(drawn[1][0] - drawn[0][0], rel=0.1)
    alone = accuracy_table(ROWS[1]).filter(setting="seen", start_layer=1, subset="all")
    assert row["high"] - row["low"] < 0.9 * (alone["high"] - alone["low"]).mean()
    outcomes = table.filter(pool="translation", setting="seen", start_layer=1)
    assert outcomes.filter(pl.col("measure") != "accuracy")["count"].sum() == 120


def test_each_half_of_the_concepts_is_reported_at_the_layer_that_the_other_chose() -> None:
    rows = ROWS[3]
    chosen = choose_layers(rows, "en", ["sw"], seed=3)
    assert chosen is not None
    assert len(chosen.first_half) == CONCEPTS // 2
    seen = rows.filter(setting="seen")
    in_first = pl.col("expected_concept").is_in(sorted(chosen.first_half))
    for half, layer in ((~in_first, chosen.of_first), (in_first, chosen.of_second)):
        shares = seen.filter(half).group_by("start_layer").agg(pl.col("correct").mean())
        best = shares.filter(pl.col("correct") == pl.col("correct").max())["start_layer"]
        assert layer == best.min()
    found = rows_at_chosen(rows, chosen)
    assert set(found["setting"]) == {"seen", "copy"}
    assert found["start_layer"].null_count() == found.height
    assert set(found["chosen_layers"]) == {chosen.name}
    expected = pl.concat(
        [
            seen.filter(in_first, start_layer=chosen.of_first),
            seen.filter(~in_first, start_layer=chosen.of_second),
        ]
    )
    assert found.filter(setting="seen")["correct"].sum() == expected["correct"].sum()
    assert choose_layers(rows.filter(setting="src_unpatched"), "en", [], seed=3) is None
    assert choose_layers(rows.filter(setting="copy"), "en", [], seed=3) is not None


def test_a_chosen_layer_is_not_reported_too_high() -> None:
    """Four layers of equal accuracy: the best of them looks better than it is."""
    naive, crossed = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        rows = pl.DataFrame(
            [
                row
                for layer in range(4)
                for row in answers(("es", "en"), "seen", layer, generator.random(30) < 0.5)
            ],
            PATCHING_SCHEMA,
        ).with_columns(chosen_layers=pl.lit(None, pl.String))
        chosen = choose_layers(rows, "en", [], seed=seed)
        assert chosen is not None
        crossed.append(rows_at_chosen(rows, chosen)["correct"].mean())
        naive.append(rows.group_by("start_layer").agg(pl.col("correct").mean())["correct"].max())
    assert np.mean(naive) > 0.56
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.035)


def test_comparisons_are_of_the_same_items() -> None:
    table = comparison_table(ROWS, "en", ["sw"])
    assert table.schema == COMPARISON_SCHEMA
    keys = {"pool": "translation", "comparison": "setting", "start_layer": 1}
    row = table.filter(checkpoint="step40", reference_setting="copy", **keys).row(0, named=True)
    seen, copy = (ROWS[3].filter(setting=name, start_layer=1) for name in ("seen", "copy"))
    assert row["accuracy"] == pytest.approx(seen["correct"].mean())
    assert row["reference_accuracy"] == pytest.approx(copy["correct"].mean())
    assert row["difference"] == pytest.approx(row["accuracy"] - row["reference_accuracy"])
    assert (row["pairs"], row["concepts"], row["n"]) == (3, CONCEPTS, 3 * CONCEPTS)
    assert row["low"] < row["difference"] < row["high"]
    assert row["survives"]
    # What the same concepts reach without a patch is compared at every start layer.
    settings = table.filter(comparison="setting", checkpoint="step40")
    unpatched = settings.filter(reference_setting="src_unpatched")
    assert set(unpatched["start_layer"]) == {0, 1, 2}
    assert set(table.filter(comparison="setting")["setting"]) == {"seen"}


def test_checkpoints_are_compared_with_the_one_before_and_phases_by_their_last() -> None:
    table = comparison_table(ROWS, "en", ["sw"])

    def steps(comparison: str) -> list[tuple]:
        found = table.filter(comparison=comparison).select("checkpoint", "reference_checkpoint")
        return sorted(found.unique().rows())

    assert steps("checkpoint") == [
        ("step20", "step10"), ("step30", "step20"), ("step40", "step30")
    ]  # fmt: skip
    assert steps("phase") == [("step40", "step20")]
    by_kind = table.filter(comparison="phase", setting="tgt_unpatched", pool="no_pivot")
    assert by_kind["output_language"].to_list() == [None, "ja", "ru"]
    assert by_kind["pairs"].to_list() == [2, 1, 1]
    three = [*ROWS, checkpoint(50, 0.9).with_columns(phase=pl.lit(3, pl.Int32))]
    later = comparison_table(three, "en", ["sw"]).filter(comparison="phase")
    assert sorted(later.select("checkpoint", "reference_checkpoint").unique().rows()) == [
        ("step40", "step20"), ("step50", "step40")
    ]  # fmt: skip
    assert comparison_table(ROWS[:1], "en", ["sw"]).filter(comparison="checkpoint").is_empty()
    assert comparison_table([], "en", []).schema == COMPARISON_SCHEMA


def test_all_tests_of_a_model_are_corrected_together() -> None:
    table = comparison_table(ROWS, "en", ["sw"])
    assert table["q"].to_numpy() == pytest.approx(adjusted(table["p"].to_numpy()))
    assert table["survives"].to_list() == [q <= 0.05 for q in table["q"]]


def test_checkpoints_that_do_not_differ_do_not_survive() -> None:
    equal = [checkpoint(10 * (seed + 1), 0.5, seed) for seed in range(4)]
    table = comparison_table(equal, "en", ["sw"]).filter(pl.col("comparison") != "setting")
    assert table["survives"].mean() <= 0.05
    assert np.mean(table["p"].to_numpy() <= 0.05) < 0.09
