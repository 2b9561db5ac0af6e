"""Cohen's d, label variety and their draws, against formulas written again and known structure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse, stats

from glossogenesis.robustness.label_effects import (
    Specificity,
    cohens_d,
    corrected_specificity,
    label_variety,
    shuffled_specificity,
)
from glossogenesis.statistics.intervals import by_halves

N_LABELS = 4


def random_posts(
    n_posts: int = 60, n_features: int = 9, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Activations [post, feature], two thirds of them 0, and labels of unequal frequency."""
    generator = np.random.default_rng(seed)
    values = generator.gamma(1.0, 2.0, (n_posts, n_features)).astype(np.float32)
    values[generator.random(values.shape) < 0.67] = 0
    labels = generator.choice(N_LABELS, n_posts, p=[0.4, 0.3, 0.2, 0.1])
    return values, labels


def d_of(
    values: NDArray[np.float32], labels: NDArray[np.int64], n_labels: int = N_LABELS
) -> NDArray[np.float32]:
    """`cohens_d` of posts whose sums are taken in the plainest way."""
    exact = values.astype(np.float64)
    groups = [exact[labels == label] for label in range(n_labels)]
    return cohens_d(
        np.array([float(len(group)) for group in groups]),
        np.array([group.sum(axis=0) for group in groups]),
        np.array([(group**2).sum(axis=0) for group in groups]),
    )


def test_d_is_the_pooled_standardised_difference_of_means() -> None:
    values, labels = random_posts()
    d = d_of(values, labels)
    for label in range(N_LABELS):
        of_label, rest = values[labels == label], values[labels != label]
        n, n_rest = len(of_label), len(rest)
        variance = (
            (n - 1) * of_label.var(axis=0, ddof=1) + (n_rest - 1) * rest.var(axis=0, ddof=1)
        ) / (n + n_rest - 2)
        expected = (of_label.mean(axis=0) - rest.mean(axis=0)) / np.sqrt(variance)
        np.testing.assert_allclose(d[label], expected, rtol=1e-4)
        # Student's t is the same difference in units of its standard error.
        t = stats.ttest_ind(of_label, rest).statistic
        np.testing.assert_allclose(d[label], t * math.sqrt(1 / n + 1 / n_rest), rtol=1e-4)


def test_what_does_not_vary_has_no_effect() -> None:
    labels = np.repeat(np.arange(3), 37)
    values = np.full((len(labels), 3), 0.1, np.float32)
    values[:, 1] = 0
    # Constant among the label's posts and among the rest: s is 0 though the means differ, but sums
    # of squares are rounded.
    values[:, 2] = np.where(labels == 1, 0.7, 0.1)
    d = d_of(values, labels, 3)
    assert d[1].tolist() == [0.0, 0.0, 0.0]
    # Among the rest of another label it does vary.
    assert d[0].tolist() == [0.0, 0.0, pytest.approx(-1.2137, abs=1e-4)]


@pytest.mark.parametrize("counts", [(5, 0, 4), (5, 1, 4), (1, 1, 0), (3, 0, 0), (0, 0, 1)])
def test_labels_without_posts_or_with_one(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(3), counts)
    values = np.random.default_rng(0).random((len(labels), 6)).astype(np.float32)
    d = d_of(values, labels, 3)
    assert np.isfinite(d).all()
    for label, count in enumerate(counts):
        # Two posts in all leave no degree of freedom.
        defined = 0 < count < len(labels) and len(labels) > 2
        assert (d[label] != 0).all() == defined


def test_variety_and_specificity() -> None:
    d = np.array([[2, 0, 1.1, 1, -3], [0, 0, 1.2, 0, 0], [0.9, 0, 0, 5, -2]], np.float32)
    variety = label_variety(d, 1.0)
    assert variety.tolist() == [1, 0, 2, 1, 0]
    specificity = Specificity.of(variety)
    assert (specificity.specific, specificity.distinguishing) == (2, 3)
    assert (specificity.share, specificity.mean_variety) == (2 / 3, 4 / 5)
    assert Specificity.of(np.zeros(4, np.int64)).share is None


def planted_posts() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features 0 to 3 are each a label's own, 4 belongs to labels 0 and 1, and 5 to none."""
    generator = np.random.default_rng(1)
    labels = np.tile(np.arange(N_LABELS), 25)
    values = generator.random((len(labels), 6)).astype(np.float32)
    for label in range(N_LABELS):
        values[labels == label, label] += 4
    values[labels < 2, 4] += 4
    return values, labels


def test_halves_of_posts_keep_planted_varieties() -> None:
    values, labels = planted_posts()
    assert label_variety(d_of(values, labels), 1.0).tolist() == [1, 1, 1, 1, 2, 0]
    found = corrected_specificity(
        sparse.csr_array(values), labels, N_LABELS, 1.0, resamples=50, seed=0
    )
    # All d are far from the threshold, so that nothing is to be corrected.
    for corrected, expected in ((found.share, 0.8), (found.mean_variety, 1.0)):
        estimate = by_halves(corrected, top=N_LABELS)
        ends = (estimate.value, estimate.low, estimate.high)
        assert ends == pytest.approx((expected,) * 3, abs=0.02)


def noisy_posts(
    means: NDArray[np.float64], posts: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Activations at least 0 around means [label, feature]; what a post has, its features share."""
    labels = np.repeat(np.arange(len(means)), posts)
    noise = generator.normal(0, 0.9, (len(labels), means.shape[1]))
    return np.maximum(means[labels] + generator.normal(0, 0.3, (len(labels), 1)) + noise, 0), labels


@pytest.mark.parametrize(
    ("n_labels", "posts", "draws"),
    [(6, 50, 24), pytest.param(20, 60, 120, marks=pytest.mark.slow)],
)
def test_corrected_counts_hold_and_cover_the_truth(n_labels: int, posts: int, draws: int) -> None:
    generator = np.random.default_rng(0)
    means = generator.gamma(0.6, 0.6, (n_labels, 256))
    values, labels = noisy_posts(means, 3000, generator)
    truth = label_variety(d_of(values, labels, n_labels), 1.0).mean()
    counted, corrected, inside = [], [], 0
    for draw in range(draws):
        values, labels = noisy_posts(means, posts, generator)
        counted.append(label_variety(d_of(values, labels, n_labels), 1.0).mean())
        values = corrected_specificity(
            sparse.csr_array(values), labels, n_labels, 1.0, resamples=60, seed=draw
        ).mean_variety
        found = by_halves(values, top=n_labels)
        assert found.low <= found.value <= found.high
        corrected.append(found.value)
        inside += found.low <= truth <= found.high
    bias = np.mean(counted) - truth
    assert bias > 0.01
    assert abs(np.mean(corrected) - truth) < 0.5 * bias
    # Of 24 intervals that cover 95 %, 20 or more do in 99 of 100 runs; of 120, 107 or more.
    assert inside >= {24: 20, 120: 107}[draws]


def test_shuffled_labels_lose_planted_varieties() -> None:
    values, labels = planted_posts()
    shuffled = shuffled_specificity(
        sparse.csr_array(values), labels, N_LABELS, 1.0, shuffles=50, seed=0
    )
    assert shuffled.mean("mean_variety") == 0
    # No feature distinguishes a label, so that there is no share.
    assert shuffled.mean("share") is None


def test_shuffles_are_those_of_labels_that_are_permuted_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So few features at a time that there are several parts.
    monkeypatch.setattr("glossogenesis.robustness.label_effects._VALUES_AT_ONCE", 200)
    values, labels = random_posts()
    threshold, seed, n_draws = 0.3, 7, 6
    given = (sparse.csr_array(values), labels, N_LABELS, threshold)
    shuffled = shuffled_specificity(*given, shuffles=n_draws, seed=seed)
    other = np.random.default_rng([seed, 1])
    for draw in range(n_draws):
        permuted = Specificity.of(label_variety(d_of(values, other.permutation(labels)), threshold))
        assert shuffled.share[draw] == pytest.approx(permuted.share)
        assert shuffled.mean_variety[draw] == pytest.approx(permuted.mean_variety)
    assert len(set(shuffled.mean_variety.tolist())) > 1


def test_no_shuffles_at_all() -> None:
    values, labels = random_posts()
    drawn = shuffled_specificity(
        sparse.csr_array(values), labels, N_LABELS, 1.0, shuffles=0, seed=0
    )
    assert drawn.mean("mean_variety") is None


def test_without_a_distinguishing_feature_there_is_no_share() -> None:
    values, labels = random_posts()
    found = corrected_specificity(
        sparse.csr_array(values), labels, N_LABELS, 50.0, resamples=5, seed=0
    )
    assert np.isnan(found.share).all()
    assert np.isnan(list(vars(by_halves(found.share, top=1)).values())).all()
    assert found.mean_variety[0] == 0
