"""Comparisons over several trainings: what each shows, and how sure several are."""

from __future__ import annotations

import polars as pl
import pytest
from scipy import stats

from glossogenesis.concepts.comparisons import COMPARISON_SCHEMA, TRAININGS_SCHEMA, trainings_table


def row(model: str, difference: float, checkpoint: str = "end", half: float = 0.0) -> dict:
    return {
        "model": model,
        "comparison": "setting",
        "setting": "seen",
        "reference_setting": "src_unpatched",
        "checkpoint": checkpoint,
        "concepts": 80,
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
    }


def comparisons(*rows: dict) -> pl.DataFrame:
    full = [{name: each.get(name) for name in COMPARISON_SCHEMA} for each in rows]
    return pl.DataFrame(full, COMPARISON_SCHEMA)


def test_trainings_vary_by_students_t_and_more_with_concepts() -> None:
    values = [0.1, 0.3, 0.2]
    names = ["demo", "demo.seed1", "demo.seed2"]
    table = comparisons(*map(row, names, values), row("other", 0.9))
    (found,) = trainings_table(table, {"demo": names}).to_dicts()
    expected = stats.ttest_1samp(values, 0)
    assert (found["model"], found["trainings"], found["concepts"]) == ("demo", 3, 80)
    assert (found["difference"], found["p"]) == pytest.approx((0.2, expected.pvalue))
    assert found["q"] == found["p"]
    wide = comparisons(
        *(row(name, value, half=0.8) for name, value in zip(names, values, strict=True))
    )
    (less_sure,) = trainings_table(wide, {"demo": names}).to_dicts()
    assert less_sure["low"] < found["low"]
    assert not less_sure["survives"]


def test_what_one_training_alone_has_is_left_out() -> None:
    table = comparisons(row("demo", 0.1), row("demo.seed1", 0.2), row("demo", 0.5, "early"))
    found = trainings_table(table, {"demo": ["demo", "demo.seed1"]})
    assert found["checkpoint"].to_list() == ["end"]
    assert trainings_table(table.clear(), {"demo": ["demo"]}).schema == TRAININGS_SCHEMA
