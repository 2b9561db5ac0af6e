"""The three stages: which checkpoints are chosen, and how sure a fall or rise is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from glossogenesis.features.stages import STAGES_SCHEMA, Point, stages_table, three_points
from glossogenesis.features.tables import SENSITIVITY_SCHEMA


def curve(
    mixed: list[int], n: int = 1000, layer: int | None = 0, **changes: object
) -> pl.DataFrame:
    """Rows of `features_languages`: so many of `n` labelled features are bilingual, by step."""
    steps = [0, *(2**place for place in range(len(mixed) - 1))]
    return pl.DataFrame(
        {
            "model": "demo",
            "checkpoint": [f"step{step}" for step in steps],
            "step": steps,
            "layer": pl.Series([layer] * len(mixed), dtype=pl.Int32),
            "sae": "topk",
            "depth": "all" if layer is None else "early",
            "label": "bilingual",
            "features": mixed,
            "labelled": pl.Series([n] * len(mixed), dtype=pl.Int64),
            "dictionary": 2 * n,
        }
    ).with_columns(pl.lit(value).alias(name) for name, value in changes.items())


def test_height_and_lowest_point_are_where_it_falls_most() -> None:
    points = [
        Point("", place, bilingual, 100, 100)
        for place, bilingual in enumerate([5, 53, 40, 8, 9, 15])
    ]
    chosen = three_points(points)
    assert chosen is not None
    assert [point.step for point in chosen] == [1, 3, 5]
    assert three_points(points[:2]) is None
    falling = three_points(points[1:4])
    assert falling is not None
    assert [point.step for point in falling] == [1, 2, 3]  # the end is not the lowest point


def test_three_stages_are_reported_with_their_numbers() -> None:
    row = stages_table(curve([40, 530, 300, 80, 90, 150])).row(0, named=True)
    assert (row["height_share"], row["lowest_share"], row["end_share"]) == (0.53, 0.08, 0.15)
    assert (row["height_checkpoint"], row["lowest_step"], row["end_step"]) == ("step1", 4, 16)
    assert (row["fall"], row["rise"]) == pytest.approx((0.45, 0.07))
    assert 0 < row["fall_low"] < 0.45 < row["fall_high"]
    assert 0 < row["rise_low"] < 0.07 < row["rise_high"]
    assert row["fall_significant"]
    assert row["rise_significant"]
    assert row["verdict"] == (
        "fell from 0.53 (step 1) to 0.08 (step 4) and rose to 0.15 (step 16): "
        "all three stages significant; labelled are 50%, 50%, 50% of the features"
    )
    assert row["height_labelled_share"] == 0.5
    assert row["same_population"]


def test_a_verdict_says_where_the_labelled_are_of_other_populations() -> None:
    rows = curve([40, 530, 80, 150]).with_columns(dictionary=pl.Series([4000, 3500, 1050, 1050]))
    row = stages_table(rows).row(0, named=True)
    assert not row["same_population"]
    assert row["verdict"].endswith(
        "significant; labelled are 29%, 95%, 95% of the features, which is not one population"
    )
    alike = stages_table(rows.with_columns(dictionary=pl.Series([9, 1100, 1050, 1050])))
    assert "population" not in alike["verdict"][0]
    matched = rows.with_columns(choice=pl.lit("population"), value=pl.lit("matched"))
    both = stages_table(rows, matched=matched)
    assert both["choice"].to_list() == ["default", "population"]


def test_thirds_stand_between_layers_and_all() -> None:
    parts = [curve([53, 8, 19], 100, layer) for layer in (1, 0)]
    parts += [
        curve([53, 8, 19], 100, None, depth=depth) for depth in ("all", "late", "early", "middle")
    ]
    table = stages_table(pl.concat(parts))
    places = [(0, "early"), (1, "early"), *((None, d) for d in ("early", "middle", "late", "all"))]
    assert table.select("layer", "depth").rows() == places
    # Each kind is a family of its own.
    assert table["rise_q"].to_list() == pytest.approx(table["rise_p"].to_list())


@pytest.mark.parametrize(
    ("mixed", "n", "ending"),
    [
        ([53, 8, 10], 100, "rose to 0.10 (step 2): the fall is significant, a rise is not"),
        ([53, 8, 3], 100, "did not rise after, 0.03 (step 2): the fall is significant, a rise is"),
        ([10, 8, 53], 100, "rose to 0.53 (step 2): the rise is significant, the fall is not"),
        ([5, 4, 5], 10, "rose to 0.50 (step 2): neither fall nor rise is significant"),
        ([5, 6, 7], 10, "did not fall before the end, 0.70 (step 2): no stages"),
        ([5, 4], 10, "fewer than three checkpoints with labelled features"),
    ],
)
def test_verdicts_say_what_is_not_significant(mixed: list[int], n: int, ending: str) -> None:
    assert ending in stages_table(curve(mixed, n))["verdict"][0]


def test_checkpoints_without_labelled_features_are_left_out() -> None:
    rows = curve([50, 0, 10, 20], 100).with_columns(
        labelled=pl.when(pl.col("features") == 0).then(0).otherwise("labelled")
    )
    row = stages_table(rows).row(0, named=True)
    assert (row["checkpoints"], row["lowest_share"]) == (3, 0.1)
    nothing = stages_table(rows.with_columns(labelled=pl.lit(0))).row(0, named=True)
    assert nothing["checkpoints"] == 0
    assert nothing["fall"] is None


def test_curves_without_stages_rarely_have_significant_ones() -> None:
    generator = np.random.default_rng(0)
    falls = rises = 0
    for _ in range(150):
        row = stages_table(curve(generator.binomial(300, 0.2, 10).tolist(), 300)).row(0, named=True)
        falls += row["fall_p"] < 0.05
        rises += row["rise_p"] < 0.05
        assert row["fall_low"] <= 0 or row["fall_p"] < 0.2
    assert max(falls, rises) <= 8


def test_intervals_of_chosen_checkpoints_hold_what_is_true_of_them() -> None:
    """The true differences of the very checkpoints that were chosen for their shares."""
    generator = np.random.default_rng(1)
    truth = np.array([0.1, 0.35, 0.3, 0.15, 0.15, 0.14, 0.2, 0.2])
    held = {"fall": 0, "rise": 0}
    for _ in range(300):
        row = stages_table(curve(generator.binomial(300, truth).tolist(), 300)).row(0, named=True)
        true_of = dict(zip([0, *(2**n for n in range(7))], truth, strict=True))
        height, lowest, end = (true_of[row[f"{p}_step"]] for p in ("height", "lowest", "end"))
        held["fall"] += row["fall_low"] <= height - lowest <= row["fall_high"]
        held["rise"] += row["rise_low"] <= end - lowest <= row["rise_high"]
        assert row["fall_low"] <= row["fall"] <= row["fall_high"]
    # They hold for all choices at once, so for the one that was made more often than 95 %.
    assert min(held.values()) >= 0.95 * 300


def test_changes_by_halves_are_free_of_the_choice() -> None:
    generator = np.random.default_rng(2)
    flat, known = [], []
    for run in range(200):
        drawn = curve(generator.binomial(200, 0.2, 10).tolist(), 200)
        row = stages_table(drawn, seed=run).row(0, named=True)
        flat.append([row[name] for name in ("fall", "fall_split", "rise", "rise_split")])
        truth = [0.1, 0.6, 0.3, 0.1, 0.3]
        drawn = curve(generator.binomial(200, truth).tolist(), 200)
        row = stages_table(drawn, seed=run).row(0, named=True)
        known.append([row["fall_split"], row["rise_split"]])
    fall, fall_split, rise, rise_split = np.mean(flat, axis=0)
    # Of the largest of many differences by chance, nothing is left on other features.
    assert fall > 0.06 and rise > 0.03
    assert abs(fall_split) < 0.01 and abs(rise_split) < 0.01
    assert np.mean(known, axis=0) == pytest.approx([0.5, 0.2], abs=0.01)
    few = stages_table(curve([1, 0, 1], 1)).row(0, named=True)
    assert few["fall"] == 1.0 and few["fall_split"] is None


def test_layers_are_corrected_together_and_pooled_rows_alone() -> None:
    table = stages_table(
        pl.concat(
            [curve([53, 8, 19], 100, layer) for layer in (0, 1)]
            + [curve([9, 8, 9], 100, 2)]
            + [curve([53, 8, 19], 100, None)]
        )
    )
    assert table.schema == STAGES_SCHEMA
    assert table["layer"].to_list() == [0, 1, 2, None]
    rises = table.select("rise_p", "rise_q").rows()
    assert rises[0][1] == pytest.approx(rises[0][0] * 3 / 2)
    assert rises[3][1] == rises[3][0]


def test_other_choices_have_rows_of_their_own() -> None:
    parts = []
    for choice, value, mixed in (
        ("default", "default", 50),
        ("share", "0.8", 40),
        ("range", "", None),
    ):
        for layer in (0, 1):
            counts = [mixed, 5, 10] if mixed else [None] * 3
            parts.append(
                curve([0, 0, 0], 100, layer, choice=choice, value=value).with_columns(
                    features=pl.Series(counts, dtype=pl.Int64)
                )
            )
    sensitivity = pl.concat(parts).with_columns(
        labelled=pl.lit(100, pl.Int64), tokens=pl.lit(None, pl.Int64), phase=pl.lit(1, pl.Int32)
    )
    sensitivity = sensitivity.select(n for n in SENSITIVITY_SCHEMA if n in sensitivity.columns)
    table = stages_table(curve([50, 5, 10], 100), sensitivity)
    assert table.select("choice", "value", "layer", "depth").rows() == [
        ("default", "default", 0, "early"),
        ("share", "0.8", 0, "early"),
        ("share", "0.8", 1, "early"),
        ("share", "0.8", None, "early"),
        ("share", "0.8", None, "all"),
    ]
    pooled = table.row(4, named=True)
    assert (pooled["height_share"], pooled["height_labelled"]) == (0.4, 200)
