"""Which pairs of posts qualify, and how they are drawn."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness import pairs as post_pairs
from glossogenesis.robustness.pairs import (
    PAIRS_SCHEMA,
    CandidatePosts,
    DrawnPairs,
    draw_pairs,
    pair_table,
    select_pairs,
)


def candidates(
    labels: str,
    degrees: list[float],
    *,
    wrong: tuple[int, ...] = (),
    beats_chance: bool = True,
    name: str = "a",
) -> CandidatePosts:
    """Posts whose labels are letters and whose states are directions in the plane."""
    angles = np.deg2rad(degrees)
    return CandidatePosts(
        path=Path(f"{name}/predictions.parquet"),
        labels=np.array(list(labels)),
        correct=~np.isin(np.arange(len(labels)), wrong),
        states=np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32),
        beats_chance=beats_chance,
    )


def random_candidates(posts: int, *, seed: int, name: str = "a") -> CandidatePosts:
    generator = np.random.default_rng(seed)
    # Labels do not depend on `seed`: models classify the same posts.
    labels = "".join("xyz"[post % 3] for post in range(posts))
    degrees = generator.uniform(0, 360, posts).tolist()
    wrong = tuple(generator.choice(posts, posts // 4, replace=False).tolist())
    return candidates(labels, degrees, wrong=wrong, name=name)


def unordered(drawn: DrawnPairs) -> list[tuple[int, int]]:
    pairs = zip(drawn.clean.tolist(), drawn.corrupted.tolist(), strict=True)
    return [(min(pair), max(pair)) for pair in pairs]


def by_brute_force(models: list[CandidatePosts], minimum: float) -> set[tuple[int, int]]:
    first = models[0]
    return {
        (left, right)
        for left, right in combinations(range(len(first.labels)), 2)
        if first.labels[left] != first.labels[right]
        and all(model.correct[left] and model.correct[right] for model in models)
        and all(model.states[left] @ model.states[right] >= minimum for model in models)
    }


def test_known_pairs_qualify() -> None:
    # Neighbours within 15 degrees: 0-1, 1-2 (one label), 3-4 (3 is wrong), 4-5, 5-6 (one label).
    posts = candidates("abbabcc", [0, 10, 20, 80, 90, 100, 110], wrong=(3,))
    minimum = float(np.cos(np.deg2rad(15)))
    drawn = draw_pairs([posts], number=100, minimum_cosine=minimum, seed=0)
    assert sorted(unordered(drawn)) == [(0, 1), (4, 5)]
    assert drawn.qualifying == 2
    assert drawn.highest_cosine == pytest.approx(np.cos(np.deg2rad(10)))
    table = pair_table("own", drawn, posts)
    assert table.schema == PAIRS_SCHEMA
    assert table["pair"].to_list() == [0, 1]
    assert table["cosine"].to_list() == pytest.approx([np.cos(np.deg2rad(10))] * 2)
    for row in table.iter_rows(named=True):
        assert row["clean_label"] == posts.labels[row["clean"]]
        assert row["corrupted_label"] == posts.labels[row["corrupted"]]


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("n_models", [1, 2])
def one_by_one(models: list[CandidatePosts], minimum: float, seed: int) -> list[tuple[int, int]]:
    """Pairs taken in the order of their numbers where both posts are free: the plainest way."""
    posts = len(models[0].labels)
    numbers = [
        np.random.default_rng([seed, post]).integers(0, 2**63 - 1, size=posts, endpoint=True)
        for post in range(posts)
    ]
    taken: list[tuple[int, int]] = []
    qualifying = by_brute_force(models, minimum)
    for pair in sorted(qualifying, key=lambda pair: numbers[pair[0]][pair[1]]):
        if not {*pair} & {post for other in taken for post in other}:
            taken.append(pair)
    return taken


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("n_models", [1, 2])
def test_pairs_are_those_that_are_taken_one_by_one(
    monkeypatch: pytest.MonkeyPatch, block: int, n_models: int
) -> None:
    monkeypatch.setattr(post_pairs, "POSTS_AT_ONCE", block)
    models = [random_candidates(60, seed=seed) for seed in range(n_models)]
    drawn = draw_pairs(models, number=10_000, minimum_cosine=0.7, seed=3)
    assert drawn.qualifying == len(by_brute_force(models, 0.7)) >= 20
    assert unordered(drawn) == one_by_one(models, 0.7, seed=3)
    posts = [*drawn.clean, *drawn.corrupted]
    assert len(posts) == len(set(posts)) >= 20


def test_neither_blocks_nor_the_number_change_which_pairs_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = [random_candidates(80, seed=0)]
    whole = draw_pairs(models, number=10_000, minimum_cosine=0.2, seed=3)
    monkeypatch.setattr(post_pairs, "POSTS_AT_ONCE", 9)
    few = draw_pairs(models, number=25, minimum_cosine=0.2, seed=3)
    assert few.clean.tolist() == whole.clean[:25].tolist()
    assert few.corrupted.tolist() == whole.corrupted[:25].tolist()
    assert few.qualifying == whole.qualifying
    other = draw_pairs(models, number=25, minimum_cosine=0.2, seed=4)
    assert unordered(other) != unordered(few)


def test_means_over_pairs_have_the_error_that_pairs_say() -> None:
    """An effect of the posts alone: intervals over pairs that share no post cover its mean."""
    generator = np.random.default_rng(0)
    inside = []
    for seed in range(300):
        posts = candidates("a" * 30 + "b" * 30, [0.0] * 60)
        of_post = generator.normal(0, 1, 60)
        drawn = draw_pairs([posts], number=60, minimum_cosine=0.9, seed=seed)
        effects = of_post[drawn.clean] + of_post[drawn.corrupted]
        ends = stats.ttest_1samp(effects, 0).confidence_interval()
        inside.append(ends.low <= 0 <= ends.high)
    assert 0.92 <= np.mean(inside) <= 0.98


def test_pairs_are_drawn_uniformly_and_turned_by_a_coin() -> None:
    posts = candidates("aaaaabbbb", [0.0] * 9)
    counts = dict.fromkeys(by_brute_force([posts], 0.9), 0)
    seeds, number, turned = 600, 4, 0
    for seed in range(seeds):
        drawn = draw_pairs([posts], number=number, minimum_cosine=0.9, seed=seed)
        for pair in unordered(drawn):
            counts[pair] += 1
        turned += int((drawn.clean > drawn.corrupted).sum())
    assert len(counts) == 20
    assert sum(counts.values()) == seeds * number
    assert stats.chisquare(list(counts.values())).pvalue > 0.01
    assert stats.binomtest(turned, seeds * number).pvalue > 0.01


def test_common_pairs_do_not_depend_on_the_order_of_models() -> None:
    models = [random_candidates(90, seed=seed, name=str(seed)) for seed in range(2)]
    first, second = (
        select_pairs(order, "common", number=15, minimum_cosine=0.5, seed=0)
        for order in (models, models[::-1])
    )
    assert first.clean.tolist() == second.clean.tolist()
    assert first.corrupted.tolist() == second.corrupted.tolist()
    assert set(unordered(first)) < by_brute_force(models, 0.5)
    tables = [pair_table("common", first, model) for model in models]
    assert tables[0].drop("cosine").equals(tables[1].drop("cosine"))
    assert not tables[0].equals(tables[1])


def test_no_pair_at_the_wanted_cosine_says_the_highest() -> None:
    # 0 and 1 are closer, but of one label; 3 is closer to 0, but wrong.
    posts = candidates("aabb", [0, 1, 60, 2], wrong=(3,))
    message = (
        r"a/predictions.parquet: no pair of set 'own' reaches the cosine 0.8; the highest between "
        r"correctly classified posts of different labels is 0.5150: lower "
        r"`robustness.pairs.minimum_cosine`"
    )
    with pytest.raises(StudyError, match=message):
        select_pairs([posts], "own", number=5, minimum_cosine=0.8, seed=0)
    drawn = select_pairs([posts], "own", number=5, minimum_cosine=0.8, seed=0, may_be_empty=True)
    assert pair_table("own", drawn, posts).schema == PAIRS_SCHEMA
    assert drawn.qualifying == len(drawn.clean) == 0


def test_the_highest_cosine_of_common_pairs_is_that_of_the_worse_model() -> None:
    models = [candidates("ab", [0, 60]), candidates("ab", [0, 75])]
    with pytest.raises(StudyError, match=r"set 'common' .* is 0.2588: lower"):
        select_pairs(models, "common", number=5, minimum_cosine=0.4, seed=0)


def test_correct_posts_of_one_label() -> None:
    posts = candidates("aab", [0, 0, 0], wrong=(2,))
    with pytest.raises(StudyError, match=r"no two correctly classified posts differ in label"):
        select_pairs([posts], "own", number=5, minimum_cosine=0.8, seed=0)


def test_a_classifier_at_chance_has_no_pairs() -> None:
    good = candidates("ab", [0, 0])
    at_chance = candidates("ab", [0, 0], beats_chance=False)
    assert select_pairs([good], "own", number=5, minimum_cosine=0.8, seed=0).qualifying == 1
    for models in ([at_chance], [good, at_chance], [at_chance, good]):
        drawn = select_pairs(models, "common", number=5, minimum_cosine=0.8, seed=0)
        assert pair_table("common", drawn, good).height == 0


def test_models_must_have_classified_the_same_posts() -> None:
    models = [candidates("ab", [0, 0]), candidates("ac", [0, 0], name="b")]
    with pytest.raises(StudyError, match=r"b/predictions.parquet: other posts than in a/pred"):
        select_pairs(models, "common", number=5, minimum_cosine=0.8, seed=0)
