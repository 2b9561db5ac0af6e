"""Which features are removed for a label, and which as controls."""

from __future__ import annotations

import numpy as np

from glossogenesis.robustness.knockout.sets import NEAREST, FeatureSet, knockout_sets

N_LATENTS = 200
FREQUENCIES = np.linspace(0, 1, N_LATENTS)
"""Feature 0 never fires."""
TOPS = {
    "a": np.array([100, 7, 42]),
    "b": np.array([3]),
    "c": np.array([], dtype=np.int64),
    "d": np.array([42, 8]),
}
Tops = dict[str, np.ndarray]


def sets_of(
    tops: Tops = TOPS, frequencies: np.ndarray = FREQUENCIES, **changes: int
) -> list[FeatureSet]:
    chosen = {"draws": 10, "seed": 5, "layer": 1, **changes}
    return knockout_sets(tops, frequencies, **chosen)


def chosen(sets: list[FeatureSet], condition: str, label: str | None = None) -> list[list[int]]:
    return [
        each.features.tolist()
        for each in sets
        if each.condition == condition and each.label == label
    ]


def test_conditions_in_order() -> None:
    sets = sets_of()
    nothing = [("none", None, 0)]
    random = [("random", None, draw) for draw in range(10)]
    of_label = {
        label: [("top", label, 0), *(("frequency", label, draw) for draw in range(10))]
        for label in "abd"
    }
    assert [(each.condition, each.label, each.draw) for each in sets] == [
        *(*nothing, *random, *of_label["a"], *of_label["b"]),
        # A label without a top feature has no controls.
        ("top", "c", 0),
        *of_label["d"],
    ]
    assert chosen(sets, "none") == [[]]
    assert [chosen(sets, "top", label) for label in "abc"] == [[[100, 7, 42]], [[3]], [[]]]


def test_all_posts_are_run_but_for_repeated_stand_ins() -> None:
    own_posts_alone = [each for each in sets_of() if not each.from_all_posts]
    assert len(own_posts_alone) == 3 * 9
    assert {each.condition for each in own_posts_alone} == {"frequency"}
    assert 0 not in {each.draw for each in own_posts_alone}


def test_random_features_are_of_all_that_fire() -> None:
    drawn = chosen(sets_of(draws=2000), "random")
    # As many as the label with most top features has.
    assert all(len(set(features)) == 3 for features in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=N_LATENTS)
    assert counts[0] == 0
    # 6,000 draws over 199 features: uniform.
    assert np.abs(counts[1:] - 6000 / 199).max() < 5 * np.sqrt(6000 / 199)


def test_stand_ins_fire_about_as_often() -> None:
    for features in chosen(sets_of(draws=200), "frequency", "a"):
        assert len(set(features)) == 3
        assert not {0, 100, 7, 42} & set(features)
        # Frequencies are equally spaced, so the nearest ten lie within six places, the feature's
        # own and that of another top one left out.
        assert np.abs(np.array(features) - TOPS["a"]).max() <= NEAREST // 2 + 1


def test_stand_ins_are_taken_once_even_where_top_features_fire_equally_often() -> None:
    tops = {"a": np.arange(12), "b": np.array([20])}
    for features in chosen(sets_of(tops, np.full(30, 0.5)), "frequency", "a"):
        assert len(set(features)) == 12
        assert min(features) >= 12


def test_fewer_where_no_more_features_fire() -> None:
    tops = {"a": np.array([2, 3]), "b": np.array([2, 3])}
    sets = sets_of(tops, np.array([0.0, 0.2, 0.3, 0.1]))
    assert chosen(sets, "frequency", "a") == [[1]] * 10
    sets = sets_of(tops, np.array([0.0, 0.0, 0.3, 0.1]))
    assert chosen(sets, "frequency", "a") == [[]] * 10
    assert {tuple(sorted(features)) for features in chosen(sets, "random")} == {(2, 3)}


def test_nothing_to_remove() -> None:
    nothing = {"a": np.array([], dtype=np.int64)}
    assert chosen(sets_of(nothing), "random") == [[]] * 10


def test_draws_depend_on_seed_layer_and_label_and_on_nothing_else() -> None:
    for key in (("random", None), ("frequency", "a")):
        first = chosen(sets_of(), *key)
        assert chosen(sets_of(), *key) == first
        assert chosen(sets_of(draws=4), *key) == first[:4]
        assert chosen(sets_of(layer=2), *key) != first
        assert chosen(sets_of(seed=6), *key) != first
