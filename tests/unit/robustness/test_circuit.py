"""Circuits, their intervals and effect sums from hand-made effects."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from glossogenesis.robustness.circuit import (
    CIRCUIT_SCHEMA,
    EFFECT_SUMS_SCHEMA,
    circuit_table,
    circuits_of,
    cross_fitted,
    effect_matrices,
    effect_sums,
    members_of,
)
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.study.setups import depth_thirds

BOOTSTRAP = Bootstrap(resamples=500, seed=0)


def effects_table(matrix: np.ndarray, name: str = "own") -> pl.DataFrame:
    """Effects `[pair, layer, component]` as rows, in an order that says nothing."""
    rows = [
        {
            "set": name,
            "pair": pair,
            "layer": layer,
            "component": ("attention", "mlp")[component],
            "effect": effect,
            "undefined": effect == 0,
        }
        for (pair, layer, component), effect in np.ndenumerate(matrix)
    ]
    types = {"pair": pl.Int32, "layer": pl.Int16, "effect": pl.Float32}
    ordered = pl.DataFrame(rows, schema_overrides=types)
    return ordered.sample(fraction=1.0, shuffle=True, seed=1)


def planted() -> pl.DataFrame:
    """Two pairs, three layers; means are 0.25, 0, -0.25, 0.5, 0.0625 and 1, all exact."""
    first = [[0.5, 0.0], [-0.25, 0.5], [0.125, 1.5]]
    # The first component's effect is undefined in the second pair and stands as 0.
    second = [[0.0, 0.0], [-0.25, 0.5], [0.0, 0.5]]
    return effects_table(np.array([first, second]))


def test_the_known_circuit() -> None:
    table = circuit_table(planted(), [0.25, 0.0625, 2.0], BOOTSTRAP)
    assert table.schema == CIRCUIT_SCHEMA
    assert table["effect"].to_list() == [0.25, 0.0, -0.25, 0.5, 0.0625, 1.0] * 3
    assert table["component"].to_list() == ["attention", "mlp"] * 9
    members = [
        members_of(rows).astype(int).tolist()
        for rows in table.partition_by("threshold", maintain_order=True)
    ]
    # An effect equal to the threshold is in the circuit.
    assert members == [
        [[1, 0], [0, 1], [0, 1]],
        [[1, 0], [0, 1], [1, 1]],
        [[0, 0], [0, 0], [0, 0]],
    ]


def test_membership_is_the_share_of_resamples() -> None:
    rows = circuit_table(planted(), [0.25], Bootstrap(resamples=4000, seed=0))
    membership = rows["membership"].to_list()
    # Effects 0.5 and 0: the mean of two draws reaches 0.25 unless both are 0, once in four.
    assert membership[0] == pytest.approx(0.75, abs=0.03)
    assert membership[1:4] == [0.0, 0.0, 1.0]
    # 0.125 and 0 never reach 0.25; 1.5 and 0.5 always do.
    assert membership[4:] == [0.0, 1.0]


def test_intervals_are_those_of_scipy() -> None:
    effects = np.random.default_rng(0).normal(0.1, 0.3, (60, 2, 2)).astype(np.float32)
    table = circuit_table(effects_table(effects), [0.01], Bootstrap(resamples=4000, seed=0))
    for row, values in zip(table.iter_rows(named=True), effects.reshape(60, 4).T, strict=True):
        expected = stats.bootstrap(
            (values.astype(float),), np.mean, n_resamples=4000, method="percentile", rng=1
        ).confidence_interval
        assert row["low"] == pytest.approx(expected.low, abs=0.006)
        assert row["high"] == pytest.approx(expected.high, abs=0.006)


def test_a_single_pair_has_no_interval() -> None:
    table = circuit_table(effects_table(np.ones((1, 2, 2))), [0.5], BOOTSTRAP)
    assert table["low"].null_count() == table["high"].null_count() == table.height == 4
    assert table["in_circuit"].all()


def test_without_effects_there_is_no_circuit() -> None:
    empty = planted().clear()
    assert circuit_table(empty, [0.25], BOOTSTRAP).equals(pl.DataFrame(schema=CIRCUIT_SCHEMA))
    sums = effect_sums(empty, 3, 0.25, BOOTSTRAP)
    assert sums.equals(pl.DataFrame(schema=EFFECT_SUMS_SCHEMA))
    assert (
        circuits_of(circuit_table(empty, [0.25], BOOTSTRAP), [0.25], random_draws=2, seed=0) == []
    )


def test_an_effect_that_is_missing_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"11 effects in set 'own'"):
        effect_matrices(planted().head(11))


@pytest.mark.parametrize(
    ("n_layers", "sizes"),
    [(26, [9, 9, 8]), (6, [2, 2, 2]), (4, [2, 1, 1]), (5, [2, 2, 1]), (2, [1, 1, 0])],
)
def test_depth_thirds(n_layers: int, sizes: list[int]) -> None:
    thirds = depth_thirds(n_layers)
    assert [len(layers) for layers in thirds.values()] == sizes
    assert [layer for layers in thirds.values() for layer in layers] == list(range(n_layers))


def alike(effects: pl.DataFrame) -> pl.DataFrame:
    """The same with the mean over pairs as the effect in each."""
    mean = pl.col("effect").mean().over("set", "layer", "component")
    return effects.with_columns(effect=mean)


def test_effect_sums_and_shares() -> None:
    # Of pairs that are alike, so that each half finds the circuit of all.
    sums = effect_sums(alike(planted()), 3, 0.25, BOOTSTRAP)
    assert sums.schema == EFFECT_SUMS_SCHEMA
    found = {
        (row["over"], row["region"], row["component"]): (row["total"], row["share"])
        for row in sums.iter_rows(named=True)
    }
    assert len(found) == sums.height == 24
    # The circuit is attention of layer 0 (0.25), MLPs of layers 1 (0.5) and 2 (1).
    assert found["circuit", "all", "both"] == (1.75, 1.0)
    assert found["circuit", "all", "attention"] == (0.25, pytest.approx(1 / 7))
    assert found["circuit", "late", "mlp"] == (1.0, pytest.approx(4 / 7))
    assert found["circuit", "middle", "both"] == (0.5, pytest.approx(2 / 7))
    assert found["circuit", "early", "mlp"] == (0.0, 0.0)
    # Negative effects count where all components do: 0.25 - 0.25 + 0.5 + 0.0625 + 1.
    assert found["all", "all", "both"] == (1.5625, 1.0)
    assert found["all", "middle", "attention"] == (-0.25, pytest.approx(-0.16))
    for over in ("circuit", "all"):
        regions = [found[over, region, "both"][0] for region in ("early", "middle", "late")]
        kinds = [found[over, "all", component][0] for component in ("attention", "mlp")]
        assert sum(regions) == sum(kinds) == found[over, "all", "both"][0]


def test_sums_over_a_circuit_are_not_too_large_for_having_been_chosen() -> None:
    """Without any effect, components that reach a threshold by luck have none in other pairs."""
    generator = np.random.default_rng(0)
    naive, fitted = [], []
    for _ in range(100):
        effects = generator.normal(0, 1, (40, 6, 2))
        means = effects.mean(axis=0)
        naive.append(means[means >= 0.1].sum())
        fitted.append(cross_fitted(effects, 0.1).sum(axis=(1, 2)).mean())
    assert np.mean(naive) > 0.5
    assert np.mean(fitted) == pytest.approx(0, abs=3 * np.std(fitted) / 10)


def test_intervals_of_sums_resample_pairs() -> None:
    """Effects that cancel within each pair leave a sum without spread."""
    spread = np.random.default_rng(0).normal(0, 1, 50)
    effects = np.zeros((50, 3, 2))
    effects[:, 0, 0], effects[:, 2, 1] = 1 + spread, 1 - spread
    sums = effect_sums(effects_table(effects), 3, 0.1, BOOTSTRAP)
    both, early = (
        sums.filter(
            (pl.col("over") == "circuit")
            & (pl.col("region") == region)
            & (pl.col("component") == "both")
        ).row(0, named=True)
        for region in ("all", "early")
    )
    assert both["low"] == pytest.approx(2) == both["high"]
    assert early["low"] < early["total"] < early["high"]
    assert early["high"] - early["low"] == pytest.approx(4 * spread.std() / 50**0.5, rel=0.15)


def test_an_empty_circuit_has_no_shares() -> None:
    sums = effect_sums(planted(), 3, 5.0, BOOTSTRAP)
    empty = sums.filter(pl.col("over") == "circuit")
    assert empty["total"].to_list() == [0.0] * 12
    assert empty["share"].null_count() == 12
    assert sums.filter(pl.col("over") == "all")["share"].null_count() == 0


def test_circuits_to_test() -> None:
    effects = pl.concat([planted(), planted().with_columns(set=pl.lit("common"))])
    thresholds = [0.25, 0.3]
    table = circuit_table(effects, thresholds, BOOTSTRAP)
    circuits = circuits_of(table, thresholds, random_draws=3, seed=0)
    found = [(each.set, each.threshold, each.kind, each.draw) for each in circuits]
    kinds = [("effect", 0), ("random", 0), ("random", 1), ("random", 2), ("all", 0), ("none", 0)]
    assert found == [
        (name, threshold, kind, draw)
        for name in ("own", "common")
        for threshold in thresholds
        for kind, draw in kinds
    ]
    assert [int(each.members.sum()) for each in circuits] == [
        3,
        3,
        3,
        3,
        6,
        0,
        2,
        2,
        2,
        2,
        6,
        0,
    ] * 2
    effect = circuits[0]
    assert effect.replaced("necessity").tolist() == [[True, False], [False, True], [False, True]]
    assert np.array_equal(effect.replaced("sufficiency"), ~effect.members)


def test_random_circuits_are_uniform_and_shared_by_size() -> None:
    table = circuit_table(planted(), [0.25], BOOTSTRAP)
    effects = pl.concat([planted(), planted().with_columns(set=pl.lit("common"))])
    both = circuits_of(circuit_table(effects, [0.25], BOOTSTRAP), [0.25], random_draws=2, seed=0)
    own, common = (
        [each.members.tolist() for each in both if each.set == name and each.kind == "random"]
        for name in ("own", "common")
    )
    assert own == common
    drawn = [
        each.members.ravel()
        for each in circuits_of(table, [0.25], random_draws=600, seed=0)
        if each.kind == "random"
    ]
    assert stats.chisquare(np.sum(drawn, axis=0)).pvalue > 0.01
