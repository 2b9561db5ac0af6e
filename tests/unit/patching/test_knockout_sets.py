"""Which features are removed for a label, and which as controls."""

from __future__ import annotations

import numpy as np

from glossogenesis.patching.knockout_sets import (
    NEAREST,
    ControlRule,
    FeatureSet,
    knockout_sets,
)

RULE = ControlRule(draws=10, other_labels=2, seed=5)
N_LATENTS = 200
FREQUENCIES = np.linspace(0, 1, N_LATENTS)
"""Feature 0 never fires."""
TOPS = {
    "a": np.array([100, 7, 42]),
    "b": np.array([3]),
    "c": np.array([], dtype=np.int64),
    "d": np.array([42, 8]),
}


def sets_of(label: str, rule: ControlRule = RULE, *, layer: int = 1) -> list[FeatureSet]:
    return knockout_sets(label, TOPS, FREQUENCIES, rule, layer=layer)


def chosen(sets: list[FeatureSet], condition: str) -> list[list[int]]:
    return [each.features.tolist() for each in sets if each.condition == condition]


def test_conditions_in_order() -> None:
    sets = sets_of("a")
    assert [(each.condition, each.draw) for each in sets] == [
        ("none", 0),
        ("top", 0),
        *(("random", draw) for draw in range(10)),
        *(("frequency", draw) for draw in range(10)),
        ("other", 0),
        ("other", 1),
    ]
    assert chosen(sets, "none") == [[]]
    assert chosen(sets, "top") == [[100, 7, 42]]


def test_random_features_fire_and_are_not_the_top_ones() -> None:
    drawn = chosen(sets_of("a", ControlRule(2000, 0, 0)), "random")
    assert all(len(set(features)) == 3 for features in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=N_LATENTS)
    assert counts[[0, 100, 7, 42]].sum() == 0
    # 6,000 draws over 196 features: uniform.
    assert counts[counts > 0].size == N_LATENTS - 4
    assert np.abs(counts[counts > 0] - 6000 / 196).max() < 5 * np.sqrt(6000 / 196)


def test_stand_ins_fire_about_as_often() -> None:
    for features in chosen(sets_of("a", ControlRule(200, 0, 0)), "frequency"):
        assert len(set(features)) == 3
        assert not {0, 100, 7, 42} & set(features)
        # Frequencies are equally spaced, so the nearest ten lie within six places, the feature's
        # own and that of another top one left out.
        assert np.abs(np.array(features) - TOPS["a"]).max() <= NEAREST // 2 + 1


def test_stand_ins_are_taken_once_even_where_top_features_fire_equally_often() -> None:
    frequencies = np.full(30, 0.5)
    tops = {"a": np.arange(12), "b": np.array([20])}
    for features in chosen(knockout_sets("a", tops, frequencies, RULE, layer=0), "frequency"):
        assert len(set(features)) == 12
        assert min(features) >= 12


def test_fewer_where_no_more_features_fire() -> None:
    frequencies = np.array([0.0, 0.2, 0.3, 0.1])
    tops = {"a": np.array([2, 3]), "b": np.array([2, 3])}
    sets = knockout_sets("a", tops, frequencies, RULE, layer=0)
    assert chosen(sets, "random") == chosen(sets, "frequency") == [[1]] * 10
    sets = knockout_sets("a", tops, np.array([0.0, 0.0, 0.3, 0.1]), RULE, layer=0)
    assert chosen(sets, "random") == chosen(sets, "frequency") == [[]] * 10


def test_other_labels_have_top_features() -> None:
    others = [each for each in sets_of("a") if each.condition == "other"]
    assert sorted(each.other_label or "" for each in others) == ["b", "d"]
    for each in others:
        assert each.features.tolist() == TOPS[each.other_label or ""].tolist()
    drawn = {sets_of("b", ControlRule(1, 1, seed))[-1].other_label for seed in range(20)}
    assert drawn == {"a", "d"}


def test_a_label_without_top_features_has_no_controls() -> None:
    assert [(each.condition, len(each.features)) for each in sets_of("c")] == [
        ("none", 0),
        ("top", 0),
    ]


def test_draws_depend_on_seed_layer_and_label_and_on_nothing_else() -> None:
    first = chosen(sets_of("a"), "random")
    assert chosen(sets_of("a"), "random") == first
    assert chosen(sets_of("a", ControlRule(4, 0, 5)), "random") == first[:4]
    assert chosen(sets_of("a", layer=2), "random") != first
    assert chosen(sets_of("a", ControlRule(10, 2, 6)), "random") != first
