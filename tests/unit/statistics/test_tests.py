"""Permutation tests against enumeration by hand, published corrections and simulated data."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from glossogenesis.statistics.clustered import adjusted
from glossogenesis.statistics.tests import permutation_p, sign_flip_p


def enumerated_sign_flip_p(differences: list[float]) -> float:
    """Share of sign patterns whose mean is at least as far from 0 as the observed one."""
    observed = abs(np.mean(differences))
    means = [
        abs(np.mean(np.multiply(signs, differences)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([mean >= observed - 1e-12 for mean in means]))


def test_sign_flips_of_five_differences_by_enumeration() -> None:
    differences = [3.0, -1.0, 4.0, 1.5, 5.0]
    # Of 32 patterns, those at least as extreme: only 1.0 or 1.5 changes its sign, or neither does,
    # and the mirror images.
    found = sign_flip_p(differences, resamples=32, seed=0)
    assert found == enumerated_sign_flip_p(differences) == 4 / 32


def test_all_differences_of_one_sign() -> None:
    assert sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], resamples=128, seed=0) == 2 / 128


def test_one_label_can_carry_a_difference() -> None:
    # Seven labels as in Fukasawa 2026 at equal layers: a mean difference of 6.3 points, of which
    # one label has 72.5 and the six others, here made up, have a mean of the other sign.
    differences = [72.5, -9.2, 4.2, -6.7, -15.0, 1.7, -3.4]
    assert np.mean(differences) == pytest.approx(6.3, abs=0.05)
    found = sign_flip_p(differences, resamples=2000, seed=0)
    assert found == enumerated_sign_flip_p(differences)
    assert found > 0.7


def test_drawn_p_is_near_the_exact_one_and_never_zero() -> None:
    differences = np.random.default_rng(1).normal(0.6, 1.0, size=12)
    exact = sign_flip_p(differences, resamples=2**12, seed=0)
    drawn = sign_flip_p(differences, resamples=2**12 - 1, seed=0)
    assert exact == enumerated_sign_flip_p(differences.tolist())
    assert drawn == pytest.approx(exact, abs=0.015)
    assert drawn == sign_flip_p(differences, resamples=2**12 - 1, seed=0)
    assert sign_flip_p(np.full(60, 3.0), resamples=99, seed=0) == pytest.approx(2 / 100)


@pytest.mark.parametrize("exact", [True, False])
def test_p_is_uniform_where_there_is_no_difference(exact: bool) -> None:
    generator = np.random.default_rng(0)
    p = [
        sign_flip_p(generator.normal(size=9), resamples=512 if exact else 400, seed=trial)
        for trial in range(300)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_one_difference_or_none() -> None:
    assert sign_flip_p([4.0], resamples=100, seed=0) == 1.0
    assert np.isnan(sign_flip_p([], resamples=100, seed=0))
    assert sign_flip_p([0.0, 0.0, 0.0], resamples=100, seed=0) == 1.0


def test_two_samples_by_enumeration() -> None:
    first, second = [1.0, 2.0, 7.0], [4.0, 6.0, 8.0, 9.0]
    values = first + second
    differences = np.array(
        [
            np.mean(np.delete(values, chosen)) - np.mean(np.take(values, chosen))
            for chosen in combinations(range(7), 3)
        ]
    )
    observed = np.mean(second) - np.mean(first)
    tails = np.mean(differences >= observed - 1e-12), np.mean(differences <= observed + 1e-12)
    assert permutation_p(first, second, resamples=35, seed=0) == pytest.approx(2 * min(tails))
    assert np.isnan(permutation_p([1.0], second, resamples=35, seed=0))


def test_drawn_divisions_are_near_all_of_them() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.normal(size=6), generator.normal(0.8, size=7)
    exact = permutation_p(first, second, resamples=1716, seed=0)
    assert permutation_p(first, second, resamples=1715, seed=0) == pytest.approx(exact, abs=0.03)
    assert exact == pytest.approx(stats.ttest_ind(first, second).pvalue, abs=0.03)


def test_benjamini_hochberg_equals_the_published_example() -> None:
    # Benjamini and Hochberg 1995, section 3.2: of 15 tests, four are significant at 0.05.
    p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
    ]  # fmt: skip
    q = adjusted(p)
    assert np.sum(q <= 0.05) == 4
    assert q[0] == pytest.approx(0.0001 * 15)
    assert np.all(np.diff(q) >= 0)


def test_what_was_not_tested_is_not_counted() -> None:
    q = adjusted([0.01, np.nan, 0.04])
    assert q[[0, 2]] == pytest.approx(adjusted([0.01, 0.04]))
    assert q[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(q[1])
    assert np.isnan(adjusted([np.nan])).all()
    assert adjusted([]).shape == (0,)


@pytest.mark.parametrize("values", [[1.0, np.nan], [[1.0, 2.0]], [np.inf, 1.0]])
def test_values_that_cannot_be_tested_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite values"):
        sign_flip_p(values, resamples=10, seed=0)
    with pytest.raises(ValueError, match="finite values"):
        permutation_p([1.0, 2.0], values, resamples=10, seed=0)
    with pytest.raises(ValueError, match="resamples is 0"):
        sign_flip_p([1.0, 2.0], resamples=0, seed=0)
