"""Several runs of a model: rows over them, and comparisons with the variance between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from glossogenesis.robustness.tables.classification import (
    classification_table,
    knockout_table,
    with_best_layers,
)
from glossogenesis.robustness.tables.comparisons import (
    ONE_RUN,
    comparisons_table,
    over_runs,
    with_rows_over_runs,
)
from glossogenesis.robustness.tables.inputs import Results, compared_models, frame_of
from glossogenesis.statistics.intervals import Bootstrap
from support.planted_models import FIRST, OTHER
from support.robustness_results import SAE, THRESHOLDS, settings, write_study

BOOTSTRAP = Bootstrap(resamples=200, seed=0)
WRONG = {0: (0, 10, 20), 1: (0,), 2: (0, 10, 20, 30, 31)}
"""Posts that each run of the first model gets wrong, of 40."""
RUNS = [
    *(replace(FIRST, seed=seed, wrong=wrong) for seed, wrong in WRONG.items()),
    *(replace(OTHER, seed=seed) for seed in WRONG),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, *RUNS)
    return Results(folder)


def runs_of(results: Results) -> list[Any]:
    written = settings(*RUNS)
    return compared_models(written["models"], written["seeds"])


def one(table: pl.DataFrame, **chosen: object) -> dict[str, Any]:
    rows = table.filter(pl.col(name).eq_missing(value) for name, value in chosen.items())
    assert rows.height == 1, rows
    return rows.row(0, named=True)


def test_a_row_over_runs_stands_before_those_of_each(results: Results) -> None:
    table = with_rows_over_runs(
        classification_table(results, runs_of(results), BOOTSTRAP), {SAE: SAE}
    )
    accuracy = table.filter(model="first", measure="accuracy")
    assert accuracy["seed"].to_list() == [None, 0, 1, 2]
    assert accuracy["runs"].to_list() == [3, None, None, None]
    values = [1 - len(wrong) / 40 for wrong in WRONG.values()]
    assert accuracy["value"].to_list()[1:] == values
    over = accuracy.row(0, named=True)
    assert over["value"] == pytest.approx(np.mean(values))
    assert over["interval"] == "95 % t over runs and Wilson"
    # Wider than the t interval of the runs alone, since all of them saw the same posts.
    t = stats.t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / np.sqrt(3))
    assert 0 < over["low"] < over["value"] < over["high"] <= 1
    assert over["high"] - over["low"] < t[1] - t[0] + 2 * 1.96 * 0.05
    # The baseline is no run of a model.
    assert table.filter(model="tf-idf", measure="accuracy").height == 1


def test_ranges_are_over_all_runs_and_the_best_layer_is_that_of_the_mean(results: Results) -> None:
    table = with_best_layers(
        with_rows_over_runs(knockout_table(results, runs_of(results), [SAE], BOOTSTRAP), {SAE: SAE})
    )
    control = table.filter(
        model="first", layer=1, label="cars", condition="frequency", measure="delta"
    )
    assert control["low"][0] == control["low"][1:].min()
    assert control["high"][0] == control["high"][1:].max()
    over = table.filter(pl.col("seed").is_null(), pl.col("best"), model="first")
    assert over["layer"].unique().to_list() == [1]
    tested = table.filter(pl.col("p").is_not_null(), pl.col("seed").is_null())
    assert tested["q"].null_count() == 0


def test_runs_of_one_model_that_differ_are_the_error_of_a_difference(results: Results) -> None:
    table = comparisons_table(
        results, runs_of(results), {SAE: SAE}, THRESHOLDS[0], BOOTSTRAP, variants=True
    )
    accuracy = one(table, measure="accuracy")
    first = [1 - len(wrong) / 40 for wrong in WRONG.values()]
    assert (accuracy["first_value"], accuracy["other_value"]) == pytest.approx(
        (np.mean(first), 1 - 2 / 40)
    )
    assert (accuracy["runs"], accuracy["test"]) == (3, "t, variance between runs")
    # Runs alone would have t with two degrees of freedom; posts make it less sure still.
    alone = stats.ttest_1samp(np.array(first) - 0.95, 0).pvalue
    assert accuracy["p"] > alone
    assert not table["note"].str.contains(ONE_RUN).any()


def test_seeds_of_autoencoders_are_nested_in_runs() -> None:
    def row(run: int, other: float) -> dict[str, Any]:
        cells = {"table": "features", "measure": "l0", "kind": "l1", "rule": "equal", "run": run}
        numbers = {"first_value": 0.0, "other_value": other, "difference": other, "n": 50}
        return cells | numbers | {"low": other, "high": other, "layer_first": 1}

    rows = [row(0, 1.0), row(0, 3.0), row(1, 2.0), row(1, 2.0), row(2, 2.5), row(2, 1.5)]
    (found,) = over_runs(rows)
    # Each run has the mean 2: nothing varies between runs.
    assert (found["difference"], found["low"], found["high"], found["runs"]) == (2.0, 2.0, 2.0, 3)
    (single,) = over_runs([row(0, 1.0)])
    assert (single["note"], single["runs"]) == (ONE_RUN, 1)


def test_of_one_run_the_row_over_runs_is_its_own() -> None:
    schema = pl.Schema(
        {"model": pl.String, "seed": pl.Int64, "measure": pl.String, "value": pl.Float64}
        | dict.fromkeys(("low", "high"), pl.Float64)
        | {"interval": pl.String, "n": pl.Int64, "runs": pl.Int64}
    )
    row = {"model": "m", "seed": 4, "measure": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6}
    table = frame_of([row | {"interval": "95 % Wilson", "n": 90}], schema)
    (over,) = with_rows_over_runs(table, {}).to_dicts()
    assert over == row | {"seed": None, "interval": "95 % Wilson, of one run", "n": 90, "runs": 1}
