"""Worlds with a known truth, and what the library's own intervals and tests make of data from them.

A case draws a truth, then data, and asks an interval or a test. Each returns [trial]: whether the
interval held the truth, or whether p was at most 0.05 where nothing differed. Truths are drawn
again in each trial, so that a rate does not hang on how one count happens to round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from glossogenesis.concepts.comparisons import choose_layers, rows_at_chosen
from glossogenesis.concepts.tables import share_rows
from glossogenesis.features.tables import BINS, _interval
from glossogenesis.robustness.scores import macro_f1_of
from glossogenesis.robustness.tables.circuit import value_of
from glossogenesis.statistics.clustered import (
    ClusterSums,
    adjusted,
    clustered_difference_interval,
    clustered_share_interval,
    whole_sign_flip_p,
)
from glossogenesis.statistics.intervals import (
    Bootstrap,
    bootstrap_ratios,
    cluster_bootstrap,
    newcombe_interval,
    paired_difference,
    paired_score_interval,
    wilson_interval,
)
from glossogenesis.statistics.resampling import Ratio as SampleRatio
from glossogenesis.statistics.resampling import (
    counts_estimate,
    independent_samples,
    mean_estimate,
    paired_means,
    paired_ratios,
    paired_samples,
    ratio_estimate,
)
from glossogenesis.statistics.tests import permutation_p, sign_flip_p

Floats = NDArray[np.float64]
Found = NDArray[np.bool_]
Draw = Callable[[np.random.Generator, int], Found]

RESAMPLES = 600


@dataclass(frozen=True)
class Case:
    """One kind of interval or test on data of one kind."""

    name: str
    draw: Draw
    trials: int = 1000
    """Of the quick check; the slow one takes ten times as many."""


def bootstrap(generator: np.random.Generator) -> Bootstrap:
    return Bootstrap(RESAMPLES, int(generator.integers(2**31)))


def held(ends: tuple[Floats, Floats], truth: Floats | float) -> Found:
    low, high = ends
    return (low <= truth) & (truth <= high)


# Shares of independent answers


def wilson(generator: np.random.Generator, trials: int) -> Found:
    """Recall of 60 posts."""
    truth = generator.uniform(0.05, 0.95, trials)
    return held(wilson_interval(generator.binomial(60, truth), np.full(trials, 60)), truth)


def newcombe(generator: np.random.Generator, trials: int) -> Found:
    """Shares of 80 and of 60 features of two dictionaries."""
    truth = generator.uniform(0.05, 0.95, (2, trials))
    counts = generator.binomial(np.array([[80], [60]]), truth)
    ends = [newcombe_interval((a, 80), (b, 60)) for a, b in counts.T]
    low, high = np.array(ends).T
    return held((low, high), truth[0] - truth[1])


def paired_score(generator: np.random.Generator, trials: int) -> Found:
    """What 60 posts lose by a knockout."""
    cells = generator.dirichlet([4, 2, 1, 2], trials)
    counts = generator.multinomial(60, cells).T
    return held(paired_score_interval(*counts), cells[:, 2] - cells[:, 1])


# Shares of answers to concepts


def correlated_answers(
    generator: np.random.Generator,
    trials: int,
    design: tuple[int, int, int],
    shares: tuple[float, float],
) -> tuple[Floats, Floats, Floats, Floats]:
    """Answers in two settings to items of concepts, over pairs that share the concepts.

    `design` is items, concepts and language pairs. Returns hits before and after, [trial, answer],
    the concept of each answer, [trial, answer], and shares, [trial].
    """
    items, concepts, pairs = design
    truth = generator.uniform(*shares, trials)
    difference = generator.uniform(-0.1, 0.1, trials)
    after = np.clip(truth + difference, *shares)
    concept = np.tile(generator.integers(0, concepts, (trials, items)), (1, pairs))

    def noise(*shape: int) -> Floats:
        return generator.normal(size=(trials, *shape))

    shared = np.sqrt(0.35) * np.take_along_axis(noise(concepts), concept, axis=1)
    hits = []
    for share in (truth, after):
        own = np.sqrt(0.15) * np.take_along_axis(noise(concepts), concept, axis=1)
        ease = shared + own + np.sqrt(0.5) * noise(items * pairs)
        hits.append((ease < ndtri(share)[:, None]).astype(np.float64))
    return hits[0], hits[1], concept.astype(np.float64), np.stack([truth, after])


def by_concept(values: Floats, concept: Floats, concepts: int) -> Floats:
    """Sums of `values` [trial, answer] over the answers to each concept: [trial, concept]."""
    place = (np.arange(len(values))[:, None] * concepts + concept).astype(np.int64)
    summed = np.bincount(place.ravel(), values.ravel(), len(values) * concepts)
    return summed.reshape(len(values), concepts)


def concept_share(
    generator: np.random.Generator,
    trials: int,
    design: tuple[int, int, int],
    shares: tuple[float, float] = (0.1, 0.9),
) -> Found:
    """Accuracy as the concepts tables have it."""
    hits, _, concept, truth = correlated_answers(generator, trials, design, shares)
    counted = [by_concept(part, concept, design[1]) for part in (hits, np.ones_like(hits))]
    return held(clustered_share_interval(ClusterSums.of(*counted)), truth[0])


def independent_share(generator: np.random.Generator, trials: int) -> Found:
    """What was done before: 256 answers about 100 concepts, taken as independent."""
    hits, _, _, truth = correlated_answers(generator, trials, (256, 100, 1), (0.1, 0.9))
    return held(wilson_interval(hits.sum(axis=1), np.full(trials, 256)), truth[0])


def concept_difference(
    generator: np.random.Generator, trials: int, design: tuple[int, int, int]
) -> Found:
    """A paired difference as `concepts_comparisons` has it."""
    before, after, concept, truth = correlated_answers(generator, trials, design, (0.15, 0.85))
    gain, n = after - before, np.ones_like(before)
    sums = ClusterSums.of(*(by_concept(part, concept, design[1]) for part in (gain, n)))
    cells = (before * after, before * (1 - after), (1 - before) * after, (1 - before) * (1 - after))
    counts = tuple(cell.sum(axis=1) for cell in cells)
    return held(clustered_difference_interval(sums, counts), truth[1] - truth[0])


def concept_sign_flips(
    generator: np.random.Generator, trials: int, design: tuple[int, int, int]
) -> Found:
    """The test of `concepts_comparisons`, where two settings are alike."""
    first, _, concept, truth = correlated_answers(generator, trials, design, (0.25, 0.75))
    # A second setting of the same ease of concepts: the same shares, drawn again.
    second = np.where(generator.random(first.shape) < 0.5, first, 0)
    fresh = generator.random(first.shape) < truth[0][:, None]
    second = np.where(generator.random(first.shape) < 0.5, first, fresh)
    gain = by_concept(second - first, concept, design[1])
    return np.array([whole_sign_flip_p(row.astype(np.int64)) <= 0.05 for row in gain])


def chosen_layer(generator: np.random.Generator, trials: int) -> Found:
    """The best of six start layers, chosen on the other half of 40 concepts with 80 items."""
    found = []
    for _ in range(trials):
        shares = np.clip(generator.normal(0.5, 0.06, 6), 0.05, 0.95)
        concept = generator.integers(0, 40, 80)
        ease = np.sqrt(0.4) * generator.normal(size=40)[concept]
        own = np.sqrt(0.6) * generator.normal(size=(6, 80))
        right = ease + own < ndtri(shares)[:, None]
        rows = pl.DataFrame(
            {
                "setting": "seen",
                "input_language": "es",
                "output_language": "en",
                "start_layer": np.repeat(np.arange(6, dtype=np.int32), 80),
                "expected_concept": [f"{name:02d}" for name in np.tile(concept, 6)],
                "correct": right.ravel(),
            },
        ).with_columns(chosen_layers=pl.lit(None, pl.String))
        chosen = choose_layers(rows, "en", [], seed=int(generator.integers(2**31)))
        assert chosen is not None
        counted = (
            rows_at_chosen(rows, chosen)
            .group_by("setting", concept="expected_concept")
            .agg(n=pl.len().cast(pl.Int64), hits=pl.col("correct").cast(pl.Int64).sum())
        )
        row = share_rows(counted, "setting").row(0, named=True)
        in_first = np.array([f"{name:02d}" in chosen.first_half for name in concept]).mean()
        truth = in_first * shares[chosen.of_first] + (1 - in_first) * shares[chosen.of_second]
        found.append(row["low"] <= truth <= row["high"])
    return np.array(found)


# Means and ratios of what is drawn, by resampling


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Values between 0 and 1 with a mean of 0.3, such as probabilities."""
    return generator.beta(0.9, 2.1, shape)


def mean_probability(generator: np.random.Generator, trials: int, concepts: int) -> Found:
    """Mean of 1 to 5 values a concept, as of probabilities and of losses of contexts."""
    n = generator.integers(1, 6, (trials, concepts)).astype(np.float64)
    own = skewed(generator, (trials, concepts))
    sums = n * (0.5 * own + 0.5 * 0.3) + generator.normal(0, 0.05, n.shape) * np.sqrt(n)
    return held(bootstrap_ratios(sums, n, bootstrap(generator)), 0.3)


def mean_over_labels(generator: np.random.Generator, trials: int) -> Found:
    """Mean drop of recall over 7 labels."""
    found = []
    for _ in range(trials):
        ends = cluster_bootstrap(generator.normal(0.2, 0.1, 7), range(7), bootstrap(generator))
        found.append(ends.low <= 0.2 <= ends.high)
    return np.array(found)


def paired_accuracy(generator: np.random.Generator, trials: int) -> Found:
    """Accuracies of two classifiers on the same 120 posts."""
    found = []
    for cells in generator.dirichlet([6, 2, 2, 2], trials):
        kinds = generator.choice(4, 120, p=cells)
        before, after = np.isin(kinds, (0, 1)), np.isin(kinds, (0, 2))
        ends = paired_difference(before, after, range(120), bootstrap(generator))
        found.append(ends.low <= cells[2] - cells[1] <= ends.high)
    return np.array(found)


def mean_of_items(generator: np.random.Generator, trials: int, n: int) -> Found:
    """Mean over concepts of the survival of spellings, and over features of cues."""
    found = []
    for values in skewed(generator, (trials, n)):
        ends = mean_estimate(values, bootstrap(generator))
        found.append(ends.low <= 0.3 <= ends.high)
    return np.array(found)


def ratio_of_items(generator: np.random.Generator, trials: int) -> Found:
    """Explained variance and the like: a ratio of sums over 100 posts."""
    found = []
    for _ in range(trials):
        below = generator.gamma(4, 1, 100)
        above = below * generator.beta(2, 3, 100)
        ends = ratio_estimate(above, below, bootstrap(generator))
        found.append(ends.low <= 0.4 <= ends.high)
    return np.array(found)


def sufficiency(generator: np.random.Generator, trials: int) -> Found:
    """What a circuit keeps of the right answers to 120 posts."""
    found = []
    for cells in generator.dirichlet([8, 3, 1, 2], trials):
        counts = generator.multinomial(120, cells)
        ends = counts_estimate(counts, _relative, bootstrap(generator))
        found.append(ends.low <= float(_relative(cells[None])[0]) <= ends.high)
    return np.array(found)


def _relative(counts: Floats) -> Floats:
    return value_of(counts, "sufficiency", "relative")


def confused(generator: np.random.Generator, cells: Floats, n: int) -> Floats:
    """Posts of 3 labels, as `label_counts` counts them: [post, 2 x label]."""
    kinds = generator.choice(9, n, p=cells.ravel())
    label, predicted = np.eye(3)[kinds // 3], np.eye(3)[kinds % 3]
    return np.concatenate([label * predicted, label + predicted], axis=1)


def sums_over_components(generator: np.random.Generator, trials: int, paired: bool) -> list[Found]:
    """Sums of effects of two models with equal means, over 80 pairs of posts: interval and p."""
    covered, refuted = [], []
    for _ in range(trials):
        base = generator.gamma(2, 0.1, (80, 3))
        others = base if paired else generator.gamma(2, 0.1, (80, 3))
        first, other = (part + generator.normal(0, 0.2, (80, 3)) for part in (base, others))
        compare = paired_samples if paired else independent_samples
        draws = bootstrap(generator)
        _, found = compare(first, other, draws).compare(lambda means: means.sum(axis=-1), draws)
        covered.append(found.low <= 0 <= found.high)
        refuted.append(found.p <= 0.05)
    return [np.array(covered), np.array(refuted)]


def exchange_interval(generator: np.random.Generator, trials: int, paired: bool) -> Found:
    return sums_over_components(generator, trials, paired)[0]


def exchange_test(generator: np.random.Generator, trials: int, paired: bool) -> Found:
    return sums_over_components(generator, trials, paired)[1]


def ratios_of_models(generator: np.random.Generator, trials: int, tested: bool) -> Found:
    """A ratio over the same 100 posts in two models that are alike."""
    found = []
    for _ in range(trials):
        below = generator.gamma(4, 1, 100)
        parts = [SampleRatio(below * generator.beta(2, 3, 100), below) for _ in range(2)]
        result = paired_ratios(parts[0], parts[1], bootstrap(generator))
        found.append(result.p <= 0.05 if tested else result.low <= 0 <= result.high)
    return np.array(found)


def means_of_models(generator: np.random.Generator, trials: int, n: int, tested: bool) -> Found:
    """Means over the same items of two models that are alike."""
    found = []
    for values in generator.normal(size=(trials, 2, n)):
        result = paired_means(values[0], values[1], bootstrap(generator))
        found.append(result.p <= 0.05 if tested else result.low <= 0 <= result.high)
    return np.array(found)


def macro_f1(generator: np.random.Generator, trials: int) -> Found:
    """Macro F1 of two alike classifiers on the same 150 posts: its difference."""
    found = []
    for _ in range(trials):
        cells = 0.7 * np.eye(3) / 3 + 0.3 * generator.dirichlet(np.ones(9)).reshape(3, 3)
        parts = [confused(generator, cells / cells.sum(), 150) for _ in range(2)]
        draws = bootstrap(generator)
        result = paired_samples(parts[0], parts[1], draws).compare(macro_f1_of, draws)[1]
        found.append(result.low <= 0 <= result.high)
    return np.array(found)


def monosemanticity(generator: np.random.Generator, trials: int) -> Found:
    """Mean of 80 features, from the histogram that the tables are made of."""
    values = skewed(generator, (trials, 80))
    found = []
    for row in values:
        places = np.floor(row * (BINS - 1)).astype(np.int64)
        counts, sums = np.bincount(places, minlength=BINS), np.bincount(places, row, BINS)
        low, high = _interval(counts, sums, bootstrap(generator))
        assert low is not None
        assert high is not None
        found.append(low <= 0.3 <= high)
    return np.array(found)


# Tests


def sign_flips(generator: np.random.Generator, trials: int, n: int) -> Found:
    """Differences of labels between two models."""
    return np.array(
        [
            sign_flip_p(values, resamples=RESAMPLES, seed=int(generator.integers(2**31))) <= 0.05
            for values in generator.normal(size=(trials, n))
        ]
    )


def divisions(generator: np.random.Generator, trials: int) -> Found:
    """Two independent samples of 12 and 20."""
    return np.array(
        [
            permutation_p(row[:12], row[12:], resamples=399, seed=int(generator.integers(2**31)))
            <= 0.05
            for row in generator.gamma(2, 1, (trials, 32))
        ]
    )


def families(generator: np.random.Generator, trials: int) -> Found:
    """Whether anything survives the correction of 40 tests of which none has an effect."""
    p = ndtr(generator.normal(size=(trials, 40)))
    return np.array([bool(np.any(adjusted(row) <= 0.05)) for row in p])


INTERVALS = (
    Case("wilson: 60 posts", wilson, 4000),
    Case("newcombe: 80 and 60 features", newcombe, 2000),
    Case("newcombe, paired: 60 posts", paired_score, 4000),
    Case("concepts, share: 48 items of 20", partial(concept_share, design=(48, 20, 1))),
    Case("concepts, share: 256 items of 100", partial(concept_share, design=(256, 100, 1))),
    Case("concepts, pooled: 6 pairs, 48 of 40", partial(concept_share, design=(48, 40, 6))),
    Case(
        "concepts, share near 0: 256 items of 100",
        partial(concept_share, design=(256, 100, 1), shares=(0.01, 0.05)),
    ),
    Case("concepts, difference: 256 of 100", partial(concept_difference, design=(256, 100, 1))),
    Case(
        "concepts, difference: 6 pairs, 48 of 40", partial(concept_difference, design=(48, 40, 6))
    ),
    Case("concepts, best start layer of 6", chosen_layer, 400),
    Case("bootstrap, mean: 12 clusters", partial(mean_probability, concepts=12)),
    Case("bootstrap, mean: 20 clusters", partial(mean_probability, concepts=20)),
    Case("bootstrap, mean: 100 clusters", partial(mean_probability, concepts=100)),
    Case("bootstrap, mean: 7 labels", mean_over_labels),
    Case("bootstrap, paired accuracy: 120 posts", paired_accuracy, 600),
    Case("bootstrap, mean: 20 items", partial(mean_of_items, n=20)),
    Case("bootstrap, mean: 60 items", partial(mean_of_items, n=60)),
    Case("bootstrap, ratio: 100 posts", ratio_of_items),
    Case("bootstrap, sufficiency: 120 posts", sufficiency),
    Case("bootstrap, macro F1 difference: 150 posts", macro_f1, 400),
    Case("bootstrap, paired means: 40 items", partial(means_of_models, n=40, tested=False), 400),
    Case("bootstrap, paired sums: 80 pairs", partial(exchange_interval, paired=True), 400),
    Case("bootstrap, two samples: 80 pairs", partial(exchange_interval, paired=False), 300),
    Case("bootstrap, paired ratios: 100 posts", partial(ratios_of_models, tested=False), 400),
    Case("bootstrap, monosemanticity: 80 features", monosemanticity),
)
TESTS = (
    Case("sign flips: 7 labels", partial(sign_flips, n=7), 600),
    Case("sign flips: 20 items", partial(sign_flips, n=20), 300),
    Case("sign flips, concepts: 48 of 20", partial(concept_sign_flips, design=(48, 20, 1))),
    Case(
        "sign flips, concepts: 6 pairs, 48 of 40", partial(concept_sign_flips, design=(48, 40, 6))
    ),
    Case("permutation: 12 and 20", divisions, 300),
    Case("exchange, paired: 80 pairs", partial(exchange_test, paired=True), 400),
    Case("exchange, two samples: 80 pairs", partial(exchange_test, paired=False), 300),
    Case("exchange, ratios: 100 posts", partial(ratios_of_models, tested=True), 400),
    Case("paired means: 12 items", partial(means_of_models, n=12, tested=True), 300),
    Case("false discoveries: 40 tests", families, 2000),
)
