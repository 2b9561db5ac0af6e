"""Tables of the robustness study from planted results: what was put in comes out."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score
from statsmodels.stats.proportion import proportion_confint

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.tables.classification import MEAN
from glossogenesis.robustness.tables.features import FEWER
from glossogenesis.robustness.tables.inputs import Results
from glossogenesis.statistics.intervals import wilson_interval
from glossogenesis.storage.tables import read_provenance, read_table, write_table
from support.planted_models import CHANCE, FIRST, LABELS, OTHER, POSTS
from support.robustness_results import (
    THRESHOLDS,
    effects,
    knockout,
    origin,
    predictions,
    settings,
    write_study,
)

SCRIPTS = Path(__file__).parents[4] / "workflow_scripts"
TABLES = ("circuit", "classification", "comparisons", "cues", "features", "knockout", "variants")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder / "results", FIRST, OTHER)
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(monkeypatch, folder / "results", folder / "tables", settings(FIRST, OTHER))
    return folder


@pytest.fixture(scope="module")
def tables(study: Path) -> dict[str, pl.DataFrame]:
    return {name: read_table(study / "tables" / f"robustness_{name}.parquet") for name in TABLES}


def run(monkeypatch: pytest.MonkeyPatch, results: Path, output: Path, chosen: dict) -> None:
    words = ["tabulate_robustness", "--settings", json.dumps(chosen), "--study", "demo"]
    words += ["--results", str(results), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(SCRIPTS / "tabulate_robustness.py"), run_name="__main__")


def one(table: pl.DataFrame, **chosen: object) -> dict:
    """The one row with these values; None stands for null."""
    rows = table.filter(pl.col(name).eq_missing(value) for name, value in chosen.items())
    assert rows.height == 1, rows
    return rows.row(0, named=True)


def test_every_table_is_written_as_parquet_and_csv_of_the_same_rows(study: Path) -> None:
    written = sorted(path.name for path in (study / "tables").iterdir())
    assert written == [f"robustness_{name}.{end}" for name in TABLES for end in ("csv", "parquet")]
    for name in TABLES:
        path = study / "tables" / f"robustness_{name}.parquet"
        table = read_table(path)
        text = pl.read_csv(path.with_suffix(".csv"), schema=table.schema)
        assert text.equals(table), name
        assert read_provenance(path).kind == path.stem
    inputs = read_provenance(study / "tables" / "robustness_cues.parquet").inputs
    assert "components/first/end/seed_0/effects.parquet" in inputs
    assert "post_features/other/end/seed_0/layer_2/l1/cues.parquet" in inputs


def test_classifiers_stand_beside_the_baseline_and_chance(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["classification"]
    assert table["model"].unique(maintain_order=True).to_list() == [
        None,
        "tf-idf",
        "first",
        "other",
    ]
    accuracy = one(table, model="first", measure="accuracy")
    assert (accuracy["value"], accuracy["n"]) == (37 / 40, 40)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(
        proportion_confint(37, 40, method="wilson")
    )
    made = predictions(FIRST.wrong)
    macro = one(table, model="first", measure="macro_f1")
    assert macro["value"] == f1_score(made["label"], made["predicted"], average="macro")
    assert macro["low"] < macro["value"] < macro["high"] <= 1
    recall = table.filter(model="other", measure="recall")
    assert dict(recall.select("label", "value").rows()) == dict(
        zip(LABELS, (0.9, 0.9, 1.0, 1.0), strict=True)
    )
    assert one(table, model="tf-idf", measure="chance")["value"] == 0.25
    assert one(table, model="tf-idf", measure="beats_chance")["value"] == 1
    assert one(table, model=None, measure="duplicates_removed")["value"] == 2
    assert one(table, model=None, measure="held_out_posts")["value"] == 40


def test_effects_and_their_sums_are_means_over_pairs(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["circuit"].filter(model="first", set="own")
    means = (
        effects(FIRST)
        .filter(set="own")
        .group_by("layer", "component")
        .agg(pl.col("effect").cast(pl.Float64).mean())
        .sort("layer", "component")
    )
    rows = table.filter(measure="component_effect", threshold=0.01).sort("layer", "component")
    assert rows["value"].to_list() == pytest.approx(means["effect"].to_list())
    assert rows["in_circuit"].to_list() == (means["effect"] >= 0.01).to_list()
    assert rows["n"].unique().to_list() == [30]
    circuit = {"over": "circuit", "threshold": 0.01}
    whole = {"region": "all", "component": "both"}
    inside = means.filter(pl.col("effect") >= 0.01)
    found = one(table, measure="effect_sum", **circuit, **whole)
    assert found["value"] == pytest.approx(inside["effect"].sum())
    assert found["low"] < found["value"] < found["high"]
    everything = one(table, measure="effect_sum", over="all", threshold=None, **whole)
    assert everything["value"] == pytest.approx(means["effect"].sum())
    assert one(table, measure="circuit_size", threshold=0.01)["value"] == inside.height
    late = one(table, measure="effect_share", **circuit, region="late", component="both")
    of_late = inside.filter(layer=2)["effect"].sum()
    assert late["value"] == pytest.approx(of_late / inside["effect"].sum())
    assert late["low"] < late["value"] < late["high"]
    shares = table.filter(measure="effect_share", component="both", **circuit)
    assert shares["value"].sum() == pytest.approx(1)
    undefined = one(table, measure="undefined_share")
    assert undefined["value"] == pytest.approx(1 / 30)


def test_direct_parts_of_effects_stand_beside_them(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["circuit"].filter(model="first", set="own")
    direct = table.filter(measure="component_direct").sort("layer", "component")
    whole = table.filter(measure="component_effect", threshold=0.01).sort("layer", "component")
    assert direct["value"].to_list() == pytest.approx((whole["value"] / 2).to_list())
    assert (direct["high"] - direct["low"]).to_list() == pytest.approx(
        ((whole["high"] - whole["low"]) / 2).to_list(), rel=0.1
    )
    # Every effect was made half direct, so that resamples agree.
    shares = table.filter(measure="component_direct_share")
    assert shares.height == whole["in_circuit"].sum() > 0
    parts = table.filter(measure="direct_share")
    assert parts.select("over", "threshold").rows() == [
        ("all", None),
        *(("circuit", threshold) for threshold in THRESHOLDS),
    ]
    for rows in (shares, parts):
        for column in ("value", "low", "high"):
            assert rows[column].to_list() == pytest.approx([0.5] * rows.height)
    whole_sum = one(
        table, measure="effect_sum", over="all", region="all", component="both", threshold=None
    )
    direct_sum = one(table, measure="direct_sum", over="all")
    assert direct_sum["value"] == pytest.approx(whole_sum["value"] / 2)
    total = one(table, measure="direct_total")
    assert (total["value"], total["n"]) == (pytest.approx(0.9 * 29 / 30), 30)


def test_circuits_stand_beside_random_ones(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["circuit"].filter(
        model="first", set="own", threshold=THRESHOLDS[0], method="mean"
    )

    def tested(measure: str, circuit: str, unit: str) -> dict:
        return one(table, measure=measure, circuit=circuit, unit=unit)

    kept = tested("sufficiency", "effect", "relative")
    assert kept["value"] == pytest.approx(35 / 37)
    assert kept["low"] < kept["value"] < kept["high"]
    assert tested("sufficiency", "effect", "points")["value"] == pytest.approx(-5)
    lost = tested("necessity", "effect", "points")
    assert lost["value"] == pytest.approx(100 * (37 - 11) / 40)
    assert tested("necessity", "effect", "relative")["value"] == pytest.approx(26 / 37)
    random = tested("sufficiency", "random", "relative")
    assert (random["value"], random["low"], random["high"]) == pytest.approx(
        (15 / 37, 10 / 37, 20 / 37)
    )
    assert (random["draws"], random["interval"]) == (3, "range over draws")
    assert tested("sufficiency", "all", "relative")["value"] == 1
    nothing = tested("necessity", "none", "points")
    assert (nothing["value"], nothing["low"], nothing["high"]) == (0, 0, 0)


def test_l0_stands_beside_every_figure_of_features(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["features"].filter(model="first")
    layer = table.filter(layer=1)
    # 39 posts with tokens: 20 of 10 tokens with L0 6, and 19 of 20 tokens with L0 7.
    l0 = (20 * 10 * 6 + 19 * 20 * 7) / (20 * 10 + 19 * 20)
    assert layer["l0"].to_list() == pytest.approx([l0] * layer.height)
    found = one(layer, measure="l0")
    assert (found["value"], found["n"]) == (pytest.approx(l0), 39)
    assert found["low"] < l0 < found["high"]
    assert one(layer, measure="active_per_post")["value"] == 14
    assert one(layer, measure="dictionary_size")["value"] == 50
    variance = one(layer, measure="explained_variance")
    # Every token is explained equally well, so resampling posts changes nothing.
    assert (variance["value"], variance["low"], variance["high"]) == pytest.approx((0.9,) * 3)
    share = one(layer, measure="label_specific_share", labels="own")
    assert (share["value"], share["low"], share["high"]) == pytest.approx((0.6, 0.5, 0.7))
    assert share["interval"] == "95 % by halves of posts, of one run"
    # What shuffled labels have is counted, and stands beside what the posts' own count.
    counted = layer.filter(measure="label_specific_share_counted")
    assert counted.select("labels", "value").rows() == [("own", 0.62), ("shuffled", 0.2)]
    over_layers = one(table, layer=None, measure="label_specific_share")
    assert (over_layers["value"], over_layers["n"]) == (0.6, 60)
    assert over_layers["interval"] == "95 % by halves of posts, of one run"


def test_means_over_layers_resample_the_same_posts(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["features"].filter(model="first")
    overall = table.filter(pl.col("layer").is_null())
    by_layer = table.filter(pl.col("layer").is_not_null())
    for measure in ("l0", "active_per_post", "top_ratio", "explained_variance"):
        found = one(overall, measure=measure)
        of_layers = by_layer.filter(measure=measure)
        assert found["value"] == pytest.approx(of_layers["value"].mean()), measure
        # Posts differ in the same way at every layer, so that a mean is not surer than one of them.
        width = (of_layers["high"] - of_layers["low"]).mean()
        assert found["high"] - found["low"] == pytest.approx(width), measure
        assert found["n"] == of_layers["n"].min()
    # So do halves of the posts, which both layers lose the same amount in.
    variety = one(overall, measure="mean_variety")
    reach = 1.96 * np.std([0.6, 0.8], ddof=1)
    expected = (0.7, 0.7 - reach, 0.7 + reach)
    assert (variety["value"], variety["low"], variety["high"]) == pytest.approx(expected, rel=1e-3)


def test_knockouts_by_label_and_over_labels(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["knockout"].filter(model="first", layer=1)
    assert table["best"].all()
    cars = table.filter(label="cars")
    before = one(cars, measure="recall_before")
    assert (before["value"], before["condition"], before["features"]) == (0.9, "none", 0)
    dropped = one(cars, condition="top", measure="delta")
    assert dropped["value"] == pytest.approx(-40)
    assert dropped["low"] < -40 < dropped["high"]
    assert dropped["interval"] == "95 % Newcombe, of one run"
    assert one(cars, condition="top", measure="recall_after")["value"] == pytest.approx(0.5)
    assert one(cars, condition="top", measure="delta_relative")["value"] == pytest.approx(-4 / 9)
    control = one(cars, condition="frequency", measure="delta")
    assert (control["value"], control["low"], control["high"]) == pytest.approx((-20 / 3, -10, 0))
    assert control["draws"] == 3
    after = one(cars, condition="frequency", measure="recall_after")
    assert (after["low"], after["high"]) == pytest.approx((0.8, 0.9))
    assert one(cars, condition="net", measure="delta")["value"] == pytest.approx(-40 + 20 / 3)
    mean = one(table, label=MEAN, condition="top", measure="delta")
    assert (mean["value"], mean["n"]) == (pytest.approx(-45), 4)
    assert mean["low"] <= -45 <= mean["high"]
    assert mean["p"] == 2 / 2**4
    assert mean["q"] >= mean["p"]
    left_out = one(table, label=MEAN, condition="top", measure="delta_left_out")
    assert (left_out["low"], left_out["high"]) == pytest.approx((-140 / 3, -130 / 3))
    assert left_out["note"].startswith("low without")


def test_accuracy_macro_f1_and_false_positives_stand_beside_recall(
    tables: dict[str, pl.DataFrame],
) -> None:
    table = tables["knockout"].filter(model="first", layer=1)
    cars = table.filter(label="cars")
    # 37 of 40 posts are right before, 33 without the features of cars.
    before = one(cars, condition="none", measure="accuracy_before")
    assert (before["value"], before["n"]) == (37 / 40, 40)
    after = one(cars, condition="top", measure="accuracy_after")
    low, high = wilson_interval(33, 40)
    assert (after["value"], after["low"], after["high"]) == (33 / 40, float(low), float(high))
    change = one(cars, condition="top", measure="accuracy_delta")
    assert change["value"] == pytest.approx(-10)
    assert change["low"] < -10 < change["high"]
    f1 = one(cars, condition="top", measure="macro_f1_delta")
    assert (f1["value"], f1["low"], f1["high"]) == pytest.approx((-8, -12, -4))
    false = one(cars, condition="top", measure="false_positives_delta")
    assert (false["value"], false["n"]) == (pytest.approx(100 * 4 / 30), 30)
    # Features that fire as often are removed from all posts in the first draw alone.
    assert one(cars, condition="frequency", measure="accuracy_delta")["draws"] == 1
    assert one(cars, condition="net", measure="accuracy_delta")["value"] == pytest.approx(-10)
    # Without the features of another label, accuracy is that label's.
    assert cars.filter(condition="other", measure="accuracy_delta").is_empty()
    mean = one(table, label=MEAN, condition="top", measure="accuracy_delta")
    assert (mean["value"], mean["n"], mean["p"]) == (pytest.approx(-11.25), 4, 2 / 2**4)
    # Random features are the same for all labels, which are no items then: draws are.
    random = one(table, label=MEAN, condition="random", measure="accuracy_delta")
    assert (random["low"], random["high"], random["draws"]) == (pytest.approx(-2.5), 0, 3)
    assert (random["interval"], random["p"]) == ("range over draws", None)


def test_cues_are_means_over_a_labels_features(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["cues"].filter(model="first", layer=1)
    assert table["label"].unique(maintain_order=True).to_list() == [*LABELS[:3], MEAN]
    share = one(table, label="cooking", measure="top_token_share")
    assert share["value"] == pytest.approx(0.4 - 0.05 + 0.02)
    assert (share["n"], share["activations"]) == (3, 300)
    assert share["low"] < share["value"] < share["high"]
    assert share["surfaces"] == "cooking (177), です (60)"
    assert one(table, label="cars", measure="unique_surfaces")["value"] == 8
    mean = one(table, label=MEAN, measure="top_surface_share")
    assert (mean["value"], mean["n"]) == (pytest.approx(0.4 - 0.05 + 0.02 + 0.1), 3)


def test_survival_is_a_mean_over_pairs_then_concepts(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["variants"].filter(model="first", layer=0)
    found = one(table, arm="sentence", k=50, kinds="all")
    assert (found["value"], found["chance"]) == (pytest.approx(0.6), 0.25)
    assert (found["n"], found["pairs"]) == (5, 30)
    assert found["low"] < 0.6 < found["high"]
    assert (found["fewer"], found["note"]) == (6, FEWER.format(50))
    enough = one(table, arm="sentence", k=20, kinds="all")
    assert (enough["fewer"], enough["note"]) == (0, None)
    assert one(table, arm="carrier", k=20, kinds="all")["value"] == pytest.approx(0.6)
    assert table.filter(arm="carrier", k=20)["kinds"].n_unique() == 1 + 6
    assert one(table, arm="sentence", k=20, kinds="kanji → hiragana")["pairs"] == 5


def test_equal_runs_write_equal_bytes_and_variants_are_optional(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, study / "results", tmp_path / "again", settings(FIRST, OTHER))
    for path in (study / "tables").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    without = settings(FIRST, variants=False)
    run(monkeypatch, study / "results", tmp_path / "one", without)
    assert not (tmp_path / "one" / "robustness_variants.csv").exists()
    assert read_table(tmp_path / "one" / "robustness_comparisons.parquet").is_empty()


def test_a_classifier_at_chance_gives_tables_that_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [replace(model, layers=(1,)) for model in (FIRST, CHANCE)]
    write_study(tmp_path / "results", *models)
    run(monkeypatch, tmp_path / "results", tmp_path / "tables", settings(*models))
    read = {name: read_table(tmp_path / "tables" / f"robustness_{name}.parquet") for name in TABLES}
    beats = one(read["classification"], model="guessing", measure="beats_chance")
    assert beats["value"] == 0
    assert beats["note"].startswith("accuracy is not above chance")
    circuit = read["circuit"].filter(model="guessing")
    assert circuit["measure"].to_list() == ["pairs", "pairs"]
    assert set(circuit["value"]) == {0}
    assert set(circuit["note"]) == {"no pair qualifies: effects and circuit are not defined"}
    missing = read["comparisons"].filter(table="circuit")
    assert missing["difference"].is_null().all()
    assert set(missing["note"]) == {"no pair of posts qualifies for guessing"}


def test_a_file_made_in_another_way_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, FIRST, OTHER)
    results = Results(tmp_path)
    wanted = {"layer": pl.Int16}
    results.table("knockout/first/end/seed_0/l1.parquet", wanted, "first")
    other = tmp_path / "knockout/other/end/seed_0/l1.parquet"
    write_table(other, knockout(OTHER), origin("another way", OTHER))
    with pytest.raises(
        StudyError, match=r"other/end/seed_0/l1\.parquet: made with other settings than"
    ):
        results.table("knockout/other/end/seed_0/l1.parquet", wanted, "other")
    made = origin("components/{m}/effects.parquet", FIRST)
    stale = replace(made, inputs={**made.inputs, "classifier": "weights of an earlier run"})
    write_table(tmp_path / "components/first/end/seed_0/effects.parquet", effects(FIRST), stale)
    with pytest.raises(StudyError, match=r"effects\.parquet: made with other classifier than"):
        results.table("components/first/end/seed_0/effects.parquet", wanted, "first")
    with pytest.raises(StudyError, match="no fact 'labels'"):
        results.facts("components/first/end/seed_0/effects.parquet", ["labels"])


def test_posts_must_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path, FIRST)
    name = "classifiers/{m}/predictions.parquet"
    fewer = predictions(()).head(LABELS.index("pets") * POSTS)
    write_table(tmp_path / name.format(m=FIRST.folder), fewer, origin(name, FIRST))
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, tmp_path / "tables", settings(FIRST))
    assert not (tmp_path / "tables").exists()
