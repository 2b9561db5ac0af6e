"""Differences between two models, their tests, and what resampling they rest on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, fisher_exact
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.pairs import PAIRS_SCHEMA
from glossogenesis.robustness.scores import macro_f1_of
from glossogenesis.robustness.tables.circuit import value_of
from glossogenesis.robustness.tables.classification import label_counts
from glossogenesis.robustness.tables.compared import _compare_counts
from glossogenesis.robustness.tables.comparisons import comparisons_table
from glossogenesis.robustness.tables.inputs import Results, compared_models
from glossogenesis.statistics.intervals import Bootstrap, cluster_bootstrap
from glossogenesis.statistics.resampling import (
    Ratio,
    counts_estimate,
    independent_samples,
    paired_means,
    paired_ratios,
    paired_samples,
)
from glossogenesis.statistics.tests import permutation_p, sign_flip_p
from glossogenesis.storage.tables import write_table
from support.planted_models import FIRST, LABELS, OTHER, Planted, without_tokenizer
from support.robustness_results import (
    SAE,
    THRESHOLDS,
    effects,
    origin,
    pairs,
    predictions,
    settings,
    write_study,
)

BOOTSTRAP = Bootstrap(resamples=2000, seed=0)
SHALLOW = replace(FIRST, layers=(1,))


def compared(folder: Path, *models: Planted, variants: bool = True) -> pl.DataFrame:
    write_study(folder, *models, variants=variants)
    return of_written(folder, *models, variants=variants)


def of_written(folder: Path, *models: Planted, variants: bool = True) -> pl.DataFrame:
    written = settings(*models)
    known = compared_models(written["models"], written["seeds"])
    return comparisons_table(
        Results(folder), known, {SAE: SAE}, THRESHOLDS[0], BOOTSTRAP, variants=variants
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return compared(tmp_path_factory.mktemp("two"), FIRST, OTHER)


def one(comparisons: pl.DataFrame, **chosen: object) -> dict[str, Any]:
    rows = comparisons.filter(pl.col(name).eq_missing(value) for name, value in chosen.items())
    assert rows.height == 1, rows
    return rows.row(0, named=True)


def test_every_test_is_corrected_for_all_of_the_table(table: pl.DataFrame) -> None:
    tested = table.drop_nulls("p")
    expected = multipletests(tested["p"], alpha=0.05, method="fdr_bh")
    assert tested["q"].to_list() == pytest.approx(expected[1].tolist())
    assert tested["survives"].to_list() == (tested["q"] < 0.05).to_list()
    assert tested["survives"].any()
    assert not tested["survives"].all()
    assert table.filter(pl.col("p").is_null())["survives"].is_null().all()
    silent = table.filter(pl.col("difference").is_null())
    assert silent["note"].null_count() == 0
    differences = table["other_value"] - table["first_value"]
    assert table["difference"].to_list() == pytest.approx(differences.to_list(), nan_ok=True)


def test_classifiers_are_compared_post_by_post(table: pl.DataFrame) -> None:
    accuracy = one(table, measure="accuracy")
    assert accuracy["difference"] == pytest.approx(1 / 40)
    # Posts 0, 10 and 20 are right in the other model alone, 1 and 11 in the first alone.
    assert accuracy["p"] == pytest.approx(binomtest(2, 5).pvalue)
    assert accuracy["low"] < accuracy["difference"] < accuracy["high"]
    assert one(table, measure="macro_f1")["p"] > 0.5


def test_effects_on_own_and_common_pairs(table: pl.DataFrame) -> None:
    def mean_sum(model: Planted, name: str) -> float:
        sums = effects(model).filter(set=name).group_by("pair").agg(pl.col("effect").sum())
        return float(sums["effect"].to_numpy().mean())

    for name, test in (
        ("own", "permutation of pairs"),
        ("common", "swaps of the models, pair by pair"),
    ):
        row = one(table, measure="effect_sum", detail=f"{name} pairs, over all components")
        expected = mean_sum(OTHER, name) - mean_sum(FIRST, name)
        assert row["difference"] == pytest.approx(expected, rel=1e-5)
        assert 0 < row["low"] < row["difference"] < row["high"]
        assert (row["test"], row["n"]) == (test, 30)
        assert row["p"] < 0.02
        assert row["survives"]


def test_ablations_are_compared_by_counts(table: pl.DataFrame) -> None:
    detail = "own pairs, mean ablation, last position, relative, threshold 0.01"
    kept = one(table, measure="sufficiency", detail=detail)
    assert kept["difference"] == pytest.approx(30 / 38 - 35 / 37)
    assert kept["low"] < kept["difference"] < kept["high"]
    assert 0 < kept["p"] < 0.2
    lost = one(table, measure="necessity", detail=detail.replace("relative", "points"))
    assert lost["difference"] == pytest.approx(100 * ((38 - 10) - (37 - 11)) / 40)


def test_label_specific_shares_by_layer_and_over_layers(table: pl.DataFrame) -> None:
    row = one(table, measure="label_specific_share", layer_first=1, rule="equal")
    assert row["difference"] == pytest.approx(0.2)
    assert row["p"] == pytest.approx(fisher_exact([[12, 8], [16, 4]]).pvalue)
    assert row["low"] < 0.2 < row["high"]
    pooled = one(table, measure="label_specific_share", layer_first=None)
    assert pooled["detail"] == "over 3 layers"
    assert pooled["p"] == pytest.approx(fisher_exact([[36, 24], [48, 12]]).pvalue)
    # The other model has one more feature active for every token.
    assert one(table, measure="l0", layer_first=2)["difference"] == pytest.approx(1)


def test_numbers_of_distinguishing_features_are_compared(table: pl.DataFrame) -> None:
    # 20 of 50 features at each of three layers, in both models: nothing to find.
    row = one(table, measure="distinguishing_share", layer_first=None)
    assert (row["first_value"], row["other_value"], row["n"]) == (0.4, 0.4, 150)
    assert (row["difference"], row["p"]) == (0, 1)
    # As many as were published, 1,490 and 904, in a dictionary of 9,216.
    found = dict(list(_compare_counts([(0, 1490, 9216), (0, 904, 9216)]))[1])
    assert found["p"] == fisher_exact([[1490, 9216 - 1490], [904, 9216 - 904]]).pvalue < 1e-30
    assert found["low"] < found["difference"] < found["high"] < 0


def test_knockouts_name_the_label_that_a_difference_rests_on(table: pl.DataFrame) -> None:
    row = one(table, table="knockout", rule="best", detail="top features")
    # Each label is looked at where the others choose, which is layer 1 in both models.
    assert (row["layer_first"], row["layer_other"]) == (None, None)
    assert (row["first_value"], row["other_value"]) == pytest.approx((-45, -25))
    assert row["difference"] == pytest.approx(20)
    assert row["p"] == 2 / 2**4
    assert row["lowest"] <= 20 <= row["highest"]
    assert row["lowest_without"] is not None
    assert table.filter(table="knockout").height == 2 * (1 + 3)


def test_cues_and_survival_are_paired(table: pl.DataFrame) -> None:
    cue = one(table, measure="top_surface_share", rule="equal", layer_first=0)
    assert cue["difference"] == pytest.approx(-0.1)
    assert (cue["p"], cue["n"]) == (2 / 2**3, 3)
    assert table.filter(table="cues").height == 4 * (1 + 3)
    survival = one(table, measure="survival", layer_first=0, detail="sentence, k = 20")
    assert survival["difference"] == pytest.approx(0.1)
    assert (survival["p"], survival["n"]) == (2 / 2**5, 5)


def test_nothing_survives_between_equal_models(tmp_path: Path) -> None:
    table = compared(tmp_path, SHALLOW, replace(SHALLOW, model="again"))
    assert not table["survives"].any()
    exact = table.filter(pl.col("table") != "circuit")
    assert exact["difference"].abs().max() == 0


def test_layers_that_one_lacks_are_not_compared(tmp_path: Path) -> None:
    table = compared(tmp_path, FIRST, replace(OTHER, layers=(1,)), variants=False)
    equal = table.filter(rule="equal")
    assert set(equal["layer_first"].drop_nulls()) == {1}
    assert table.filter(table="variants").is_empty()


def test_other_tokenizers_leave_labels_to_compare(tmp_path: Path) -> None:
    table = compared(tmp_path, SHALLOW, without_tokenizer(OTHER))
    left_out = table.filter(pl.col("note").str.starts_with("different tokenizers: labels"))
    assert set(left_out["measure"]) == {"effect_sum", "l0", "top_token_share", "unique_tokens"}
    assert left_out["difference"].is_null().all()
    assert left_out["p"].is_null().all()
    kept = table.drop_nulls("difference")
    assert not kept["detail"].fill_null("").str.starts_with("common").any()
    assert {"accuracy", "delta", "top_surface_share", "label_specific_share"} <= set(
        kept["measure"]
    )
    survival = kept.filter(measure="survival")
    assert survival["note"].str.starts_with("different tokenizers: a spelling").all()


def test_common_pairs_must_be_the_same(tmp_path: Path) -> None:
    models = (SHALLOW, replace(OTHER, layers=(1,)))
    write_study(tmp_path, *models)
    name = "pairs/{m}/pairs.parquet"
    moved = pairs(OTHER).with_columns(pl.col("corrupted") + 1).cast(dict(PAIRS_SCHEMA))
    write_table(tmp_path / name.format(m=OTHER.folder), moved, origin(name, OTHER))
    with pytest.raises(
        StudyError, match=r"pairs/other/end/seed_0/pairs\.parquet: other common pairs than"
    ):
        of_written(tmp_path, *models)


def test_macro_f1_of_a_resample_is_scikit_learns() -> None:
    made = predictions(range(0, 40, 3))
    counts = label_counts(made, LABELS)
    generator = np.random.default_rng(0)
    for chosen in generator.integers(0, 40, (5, 12)):
        times = np.bincount(chosen, minlength=40).astype(float)
        part = made[chosen.tolist()]
        expected = f1_score(part["label"], part["predicted"], average="macro", zero_division=0)
        assert macro_f1_of(times @ counts) == pytest.approx(expected)


def test_counts_resample_like_the_posts_that_they_count() -> None:
    cells = np.array([50, 20, 5, 25])
    many = Bootstrap(resamples=4000, seed=1)
    found = counts_estimate(cells, lambda counts: value_of(counts, "necessity", "points"), many)
    posts = np.repeat([0.0, 1.0, -1.0, 0.0], cells)
    expected = cluster_bootstrap(100 * posts, range(len(posts)), many)
    assert found.value == pytest.approx(expected.value)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1.01)


@pytest.mark.parametrize("paired", [True, False])
def test_exchanging_items_tests_means_like_scipy(paired: bool) -> None:
    generator = np.random.default_rng(3)
    first, other = generator.normal(0, 1, (40, 1)), generator.normal(0.4, 1, (40, 1))
    many = Bootstrap(resamples=4000, seed=0)
    samples = (paired_samples if paired else independent_samples)(first, other, many)
    values, found = samples.compare(lambda means: means[..., 0], many)
    if paired:
        p = sign_flip_p((other - first)[:, 0], resamples=4000, seed=0)
    else:
        p = permutation_p(first[:, 0], other[:, 0], resamples=4000, seed=0)
    assert found.difference == pytest.approx(values[1] - values[0])
    assert found.difference == pytest.approx(other.mean() - first.mean())
    assert found.p == pytest.approx(p, abs=0.04)
    assert 0.05 < found.p < 0.5
    assert found.low < found.difference < found.high


def test_a_component_just_at_the_threshold_makes_no_difference() -> None:
    """Its mean lies above in one model and below in the other, by chance alone."""
    generator = np.random.default_rng(0)
    effect = generator.normal(0.01, 0.005, (2, 30, 1))
    effect += [[[0.0005]], [[-0.0005]]] - effect.mean(axis=1, keepdims=True) + 0.01
    samples = independent_samples(effect[0], effect[1], BOOTSTRAP)
    values, found = samples.compare(
        lambda means: np.where(means >= 0.01, means, 0).sum(axis=-1), BOOTSTRAP
    )
    assert values == pytest.approx([0.0105, 0])
    assert found.p > 0.2
    assert found.low < 0 < found.high


def test_what_rests_on_one_item_has_no_test() -> None:
    alone = Ratio(np.array([1.0]), np.array([2.0]))
    assert np.isnan(paired_ratios(alone, alone, BOOTSTRAP).p)
    assert np.isnan(paired_means([1.0], [2.0], BOOTSTRAP).difference)
    nothing = Ratio(np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    assert np.isnan(nothing.value)
    assert np.isnan(paired_ratios(nothing, nothing, BOOTSTRAP).p)
