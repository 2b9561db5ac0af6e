"""Intervals and tests of clustered shares: by hand, by enumeration and by resampling."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from glossogenesis.statistics.clustered import (
    ClusterSums,
    clustered_difference_interval,
    clustered_share_interval,
    whole_sign_flip_p,
)
from glossogenesis.statistics.intervals import (
    Bootstrap,
    bootstrap_ratios,
    score_interval,
    tails,
    wilson_interval,
)


def test_answers_that_agree_within_clusters_count_once() -> None:
    hits = np.repeat([[1.0, 0.0]], 20, axis=0).ravel()
    once = clustered_share_interval(ClusterSums.of(hits[None], np.ones((1, 40))))
    fivefold = clustered_share_interval(ClusterSums.of(5 * hits[None], np.full((1, 40), 5.0)))
    assert np.ravel(once) == pytest.approx(np.ravel(fivefold))
    # 40 independent answers; the variance over 40 clusters has 39 degrees of freedom.
    low, high = score_interval(np.array([0.5]), np.array([39.0]), stats.t.ppf(0.975, 39))
    assert np.ravel(once) == pytest.approx([low[0], high[0]])


def test_where_all_agree_the_clusters_count() -> None:
    low, high = clustered_share_interval(ClusterSums.of([[3, 3, 3, 3]], [[3, 3, 3, 3]]))
    expected = score_interval(np.array([1.0]), np.array([4.0]), stats.t.ppf(0.975, 3))
    assert (low[0], high[0]) == (expected[0][0], 1.0)


def test_clusters_never_make_an_interval_narrower_than_independent_answers() -> None:
    # Each cluster has exactly half right, so clusters do not differ at all.
    low, high = clustered_share_interval(ClusterSums.of([np.full(30, 2.0)], [np.full(30, 4.0)]))
    wilson_low, wilson_high = wilson_interval([60], [120])
    assert low[0] < wilson_low[0] < wilson_high[0] < high[0]


def test_a_single_cluster_has_no_interval() -> None:
    sums = ClusterSums.of([[2.0, 0.0], [1.0, 1.0]], [[3.0, 0.0], [1.0, 2.0]])
    assert sums.clusters.tolist() == [1, 2]
    low, high = clustered_share_interval(sums)
    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()


def test_the_variance_is_that_of_resampled_clusters() -> None:
    generator = np.random.default_rng(5)
    n = generator.integers(1, 6, size=(1, 60)).astype(float)
    hits = generator.binomial(n.astype(int), generator.beta(1, 1, size=60)).astype(float)
    sums = ClusterSums.of(hits, n)
    low, high = bootstrap_ratios(hits, n, Bootstrap(resamples=4000))
    found = clustered_share_interval(sums)
    assert found[1][0] - found[0][0] == pytest.approx(high[0] - low[0], rel=0.06)
    assert sums.mean[0] == pytest.approx(hits.sum() / n.sum())


def test_a_difference_of_clusters() -> None:
    # Two clusters gain three items each and one loses one: both 4, lost 1, gained 6, neither 9.
    y, n = np.array([[3.0, 3, -1, 0]]), np.full((1, 4), 5.0)
    sums = ClusterSums.of(y, n)
    low, high = clustered_difference_interval(sums, ([4], [1], [6], [9]))
    spread = np.sum((y - sums.mean * n) ** 2)
    assert sums.variance[0] == pytest.approx(4 / 3 * spread / 400)
    assert low[0] < 5 / 20 < high[0]
    mirrored = clustered_difference_interval(ClusterSums.of(-y, n), ([4], [6], [1], [9]))
    assert (low[0], high[0]) == pytest.approx((-mirrored[1][0], -mirrored[0][0]))


@pytest.mark.parametrize(
    "totals", [[1, 2, 3], [0, 0], [1, 1, 1, 1, -1], [5], [2, -2], [3, 1, 1, 0, -4, 2], []]
)
def test_sign_flips_of_whole_numbers_by_enumeration(totals: list[int]) -> None:
    sizes = np.abs(totals)
    sums = np.array([np.dot(signs, sizes) for signs in product((1, -1), repeat=len(totals))])
    observed = abs(sum(totals))
    expected = 2 * np.mean(sums > observed) + np.mean(sums == observed)
    assert whole_sign_flip_p(totals) == pytest.approx(expected)


def test_sign_flips_in_one_direction_are_not_lost_in_rounding() -> None:
    assert whole_sign_flip_p([1] * 20) == pytest.approx(2.0**-20)
    assert whole_sign_flip_p([3] * 200) == 2.0**-200


def test_percentiles_of_few_items_are_moved_out() -> None:
    assert tails(10_000) == pytest.approx((0.025, 0.975), abs=3e-4)
    # 2.365 * sqrt(8 / 7) standard deviations.
    assert tails(8)[0] == pytest.approx(stats.norm.cdf(-stats.t.ppf(0.975, 7) * np.sqrt(8 / 7)))
    assert tails(8)[0] < 0.01
