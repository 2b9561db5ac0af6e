"""Intervals of the difference of two shares of the same items."""

from __future__ import annotations

import numpy as np
import pytest

from glossogenesis.statistics.intervals import (
    paired_difference,
    paired_score_interval,
    wilson_interval,
)


def test_nothing_lost_still_has_a_width() -> None:
    low, high = paired_score_interval([60], [0], [0], [0])
    wilson_low, _ = wilson_interval([60], [60])
    assert low[0] == pytest.approx(wilson_low[0] - 1)
    assert high[0] == pytest.approx(1 - wilson_low[0])


def test_everything_lost() -> None:
    low, high = paired_score_interval([0], [60], [0], [0])
    assert low[0] == -1
    # Both shares' Wilson ends are as far from 1 and 0, and their correlation is not defined.
    _, wilson_high = wilson_interval([0], [60])
    assert high[0] == pytest.approx(-1 + np.sqrt(2) * wilson_high[0])


def test_losing_and_gaining_are_mirror_images() -> None:
    low, high = paired_score_interval([40, 30], [12, 3], [2, 9], [6, 18])
    mirrored_low, mirrored_high = paired_score_interval([40, 30], [2, 9], [12, 3], [6, 18])
    assert low == pytest.approx(-mirrored_high)
    assert high == pytest.approx(-mirrored_low)
    difference = (np.array([2, 9]) - np.array([12, 3])) / 60
    assert np.all((low < difference) & (difference < high))


def test_many_items_agree_with_the_bootstrap() -> None:
    counts = np.array([500, 260, 90, 150])
    before = np.repeat([1, 1, 0, 0], counts)
    after = np.repeat([1, 0, 1, 0], counts)
    found = paired_difference(before, after, [str(item) for item in range(1000)])
    low, high = paired_score_interval(*counts[:, None])
    assert low[0] == pytest.approx(found.low, abs=0.004)
    assert high[0] == pytest.approx(found.high, abs=0.004)


@pytest.mark.parametrize("shares", [[0.9, 0.1, 0.0, 0.0], [0.3, 0.4, 0.1, 0.2], [0.9, 0, 0, 0.1]])
def test_coverage(shares: list[float]) -> None:
    drawn = np.random.default_rng(0).multinomial(60, shares, size=4000).T
    low, high = paired_score_interval(*drawn)
    true = shares[2] - shares[1]
    assert np.mean((low <= true) & (true <= high)) > 0.93


def test_no_rows() -> None:
    low, high = paired_score_interval([], [], [], [])
    assert low.shape == high.shape == (0,)
