"""Intervals against published numbers, scipy and simulated data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from glossogenesis.statistics.intervals import (
    Bootstrap,
    bootstrap_ratios,
    cluster_bootstrap,
    newcombe_interval,
    paired_difference,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (score, no correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_published_numbers(correct: int, n: int, low: float, high: float) -> None:
    found_low, found_high = wilson_interval([correct], [n])
    assert found_low[0] == pytest.approx(low, abs=5e-5)
    assert found_high[0] == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(
    ("more", "less", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_newcombe_equals_published_numbers(
    more: tuple[int, int], less: tuple[int, int], low: float, high: float
) -> None:
    assert newcombe_interval(more, less) == pytest.approx((low, high), abs=1e-4)
    assert newcombe_interval(less, more) == pytest.approx((-high, -low), abs=1e-4)


def test_wilson_stays_within_zero_and_one_and_keeps_the_shape() -> None:
    correct = np.array([[0, 3], [5, 5]])
    low, high = wilson_interval(correct, np.full((2, 2), 5))
    assert low.shape == high.shape == (2, 2)
    assert low[0, 0] == 0.0
    assert high[1, 0] == 1.0
    assert np.all(low <= correct / 5)
    assert np.all(correct / 5 <= high)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= correct <= n"):
        wilson_interval([correct], [n])


def clustered_answers(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """40 concepts of 5 answers each; each concept has its own chance, 0.5 on average."""
    chances = generator.beta(0.7, 0.7, size=40)
    answers = generator.random((40, 5)) < chances[:, None]
    return answers.astype(float).ravel(), np.repeat(np.arange(40), 5)


def test_cluster_bootstrap_covers_where_independent_answers_would_not() -> None:
    generator = np.random.default_rng(7)
    covered = naive = 0
    for trial in range(400):
        answers, concepts = clustered_answers(generator)
        found = cluster_bootstrap(answers, concepts, Bootstrap(resamples=400, seed=trial))
        covered += found.low <= 0.5 <= found.high
        low, high = wilson_interval([answers.sum()], [answers.size])
        naive += low[0] <= 0.5 <= high[0]
    assert 0.91 <= covered / 400 <= 0.98
    assert naive / 400 < 0.85


def test_cluster_bootstrap_agrees_with_scipy() -> None:
    answers, concepts = clustered_answers(np.random.default_rng(3))
    sums = np.bincount(concepts, weights=answers)
    counts = np.bincount(concepts)
    reference = stats.bootstrap(
        (sums, counts),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = cluster_bootstrap(answers, concepts, Bootstrap(resamples=20_000))
    assert found.value == pytest.approx(answers.mean())
    assert found.low == pytest.approx(reference.low, abs=0.01)
    assert found.high == pytest.approx(reference.high, abs=0.01)


def test_equal_seeds_give_equal_intervals_and_rows_do_not_depend_on_their_neighbours() -> None:
    generator = np.random.default_rng(0)
    sums = generator.integers(0, 4, size=(600, 12))
    counts = np.full((600, 12), 4)
    low, high = bootstrap_ratios(sums, counts, Bootstrap(resamples=100, seed=5))
    again, _ = bootstrap_ratios(sums[550:551], counts[550:551], Bootstrap(resamples=100, seed=5))
    other, _ = bootstrap_ratios(sums, counts, Bootstrap(resamples=100, seed=6))
    assert again[0] == low[550]
    assert not np.array_equal(low, other)
    assert np.all(low <= high)


def test_one_cluster_has_no_interval() -> None:
    found = cluster_bootstrap([1, 0, 1], ["cat", "cat", "cat"])
    assert found.value == pytest.approx(2 / 3)
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_equal_values_give_an_interval_without_width() -> None:
    found = cluster_bootstrap([1, 1, 1], ["cat", "dog", "cat"])
    assert (found.low, found.high) == (1.0, 1.0)


def test_paired_difference_removes_what_the_items_share() -> None:
    generator = np.random.default_rng(11)
    answers, concepts = clustered_answers(generator)
    better = np.where(generator.random(answers.size) < 0.1, 1.0, answers)
    found = paired_difference(answers, better, concepts)
    assert found.value == pytest.approx(better.mean() - answers.mean())
    assert 0 < found.low < found.value < found.high
    apart = cluster_bootstrap(better, concepts)
    assert found.high - found.low < (apart.high - apart.low) / 2
    assert paired_difference(answers, answers, concepts).high == 0.0


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired_difference([1, 0], [1], ["cat", "dog"])
    with pytest.raises(ValueError, match="clusters"):
        cluster_bootstrap([1, 0], ["cat"])
    with pytest.raises(ValueError, match="without values"):
        bootstrap_ratios([[1.0, 0.0]], [[1.0, 0.0]], Bootstrap())
    with pytest.raises(ValueError, match="confidence"):
        Bootstrap(confidence=95)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_symmetric(counts: tuple[int, int]) -> None:
    correct, n = counts
    low, high = wilson_interval([correct], [n])
    mirrored_low, mirrored_high = wilson_interval([n - correct], [n])
    assert low[0] == pytest.approx(1 - mirrored_high[0], abs=1e-12)
    assert high[0] == pytest.approx(1 - mirrored_low[0], abs=1e-12)
