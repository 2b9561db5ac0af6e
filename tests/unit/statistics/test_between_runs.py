"""Means and differences over runs: known variances, and coverage where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from glossogenesis.statistics.clustered import (
    difference_over_runs,
    mean_over_runs,
    variance_of_interval,
)


def test_without_items_it_is_students_t() -> None:
    values = [0.3, 0.5, 0.7, 0.6]
    found = mean_over_runs(values, within=0.0, items=100)
    expected = stats.ttest_1samp(values, 0.0)
    ends = expected.confidence_interval()
    assert (found.value, found.p) == pytest.approx((0.525, expected.pvalue))
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_two_models_without_items_are_welchs_test() -> None:
    first, other = [0.3, 0.5, 0.7], [1.6, 1.5, 2.3]
    found = difference_over_runs(first, other, within=0.0, items=100)
    expected = stats.ttest_ind(other, first, equal_var=False)
    ends = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx((ends.low, ends.high, expected.pvalue))


def test_without_variance_between_runs_it_is_that_of_the_items() -> None:
    found = mean_over_runs([2.0, 2.0, 2.0], within=0.25, items=30)
    assert found.high - found.value == pytest.approx(0.5 * stats.t.ppf(0.975, 29))


def test_a_single_run_has_no_error_and_equal_ones_no_p() -> None:
    single = mean_over_runs([0.4], within=0.01, items=50)
    assert single.value == 0.4
    assert np.isnan([single.low, single.high, single.p]).all()
    equal = difference_over_runs([1.0, 1.0], [1.0, 1.0], within=0.0, items=5)
    assert (equal.value, equal.low, equal.high) == (0.0, 0.0, 0.0)
    assert np.isnan(equal.p)


def test_variance_that_intervals_stand_for() -> None:
    low, high = stats.norm.interval(0.95, loc=[0.0, 1.0], scale=[1.0, 3.0])
    assert variance_of_interval(low, high) == pytest.approx((1 + 9) / 2)
    assert variance_of_interval([np.nan], [np.nan]) == 0


@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_models_that_are_alike_differ_in_one_of_twenty(runs: int, spread: float) -> None:
    """Runs that see the same items: what runs add varies by `spread` errors of the items."""
    generator = np.random.default_rng(0)
    items, draws = 60, 1500
    found = []
    for _ in range(draws):
        shared = generator.normal(0, 1, (2, items)) / np.sqrt(2)
        own = generator.normal(0, spread / np.sqrt(items), (2, runs))
        first, other = own + shared.mean(axis=1)[:, None]
        differences = shared[1] - shared[0]
        within = differences.var(ddof=1) / items
        found.append(difference_over_runs(first, other, within=within, items=items))
    rejected = np.mean([each.p < 0.05 for each in found])
    # With three runs Satterthwaite's degrees of freedom err on the safe side.
    assert 0.02 <= rejected <= 0.07, rejected
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    assert covered == pytest.approx(1 - rejected)


@pytest.mark.parametrize("runs", [3, 6])
def test_means_over_runs_cover_what_all_runs_and_items_would_give(runs: int) -> None:
    generator = np.random.default_rng(1)
    inside = []
    for _ in range(2000):
        shared = generator.normal(0.4, 1, 80)
        values = shared.mean() + generator.normal(0, 0.1, runs)
        found = mean_over_runs(values, within=shared.var(ddof=1) / 80, items=80)
        inside.append(found.low <= 0.4 <= found.high)
    assert 0.93 <= np.mean(inside) <= 0.98
