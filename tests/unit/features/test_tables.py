"""Tables of languages, monosemanticity and sensitivity, against features counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.features.schemas import statistics_schema
from glossogenesis.features.stages import matched_curves, ranked_counts
from glossogenesis.features.tables import (
    LANGUAGES_SCHEMA,
    MONOSEMANTICITY_SCHEMA,
    SENSITIVITY_SCHEMA,
    label_counts,
    languages_table,
    monosemanticity_histogram,
    monosemanticity_table,
    sensitivity_rows,
)
from glossogenesis.statistics.intervals import Bootstrap, wilson_interval
from glossogenesis.study.setups import GRID_SCHEMA, Setup, filled_share, grid_table, with_depth
from glossogenesis.study.sheet import Checkpoint
from support.feature_results import sensitivity, statistics

PATH = Path("statistics.parquet")
ROW = Checkpoint(model="demo", checkpoint="step8", step=8, tokens=800, source="x")


def found(labels: list[str], values: list[float | None], types: list[int]) -> pl.DataFrame:
    """A `statistics.parquet` of en and ja with these columns and nothing else."""
    schema = statistics_schema(("en", "ja"))
    given = {"language": labels, "monosemanticity": values, "token_types": types}
    given["examples"] = [100 - place for place in range(len(labels))]
    return pl.DataFrame({name: given.get(name, [None] * len(labels)) for name in schema}, schema)


SMALL = found(
    ["en", "en", "en", "bilingual", "symbol", "unlabelled", "dead"],
    [0.5, 0.25, 1.0, 0.25, 0.9, None, None],
    [4, 4, 1, 3, 2, 0, 0],
)


def at(table: pl.DataFrame, layer: int | None, **wanted: object) -> dict:
    chosen = table.filter(pl.col("layer").eq_missing(layer))
    for name, value in wanted.items():
        chosen = chosen.filter(pl.col(name) == value)
    assert chosen.height == 1
    return chosen.row(0, named=True)


def counts() -> pl.DataFrame:
    other = found(["ja", "bilingual", "mixed", "dead"], [0.5] * 3 + [None], [2, 2, 2, 0])
    parts = (label_counts(table, PATH) for table in (SMALL, other))
    return pl.concat(
        [with_depth(part, Setup(ROW, layer, "topk", 3)) for layer, part in enumerate(parts)]
    )


def test_shares_are_of_labelled_features_and_pool_over_layers() -> None:
    table = languages_table(counts())
    assert table.schema == LANGUAGES_SCHEMA
    labels = ["en", "ja", "bilingual", "mixed", "symbol", "unlabelled", "dead"]
    assert table["label"].to_list() == labels * 5
    assert table["layer"].to_list() == [0] * 7 + [1] * 7 + [None] * 21
    assert table["depth"].to_list()[::7] == ["early", "middle", "early", "middle", "all"]
    english = at(table, 0, label="en")
    low, high = wilson_interval([3], [4])
    assert (english["dictionary"], english["labelled_share"]) == (7, 4 / 7)
    assert (english["features"], english["labelled"], english["share"]) == (3, 4, 0.75)
    assert (english["low"], english["high"]) == (low[0], high[0])
    assert (english["step"], english["tokens"], english["phase"], english["sae"]) == (
        8,
        800,
        1,
        "topk",
    )
    assert at(table, 0, label="ja")["share"] == 0.0
    pooled = at(table, None, depth="all", label="bilingual")
    assert (pooled["features"], pooled["labelled"], pooled["share"]) == (2, 7, 2 / 7)
    assert pooled["labelled_share"] == 7 / 11
    third = at(table, None, depth="middle", label="bilingual")
    assert (third["features"], third["labelled"]) == (1, 3)
    for label in ("symbol", "unlabelled", "dead"):
        row = at(table, 0, label=label)
        assert row["features"] == 1
        assert (row["share"], row["low"], row["high"]) == (None, None, None)


def test_a_model_of_unknown_depth_has_no_thirds() -> None:
    table = languages_table(with_depth(label_counts(SMALL, PATH), Setup(ROW, 4, "topk")))
    assert table["depth"].to_list() == [None] * 7 + ["all"] * 7
    assert [Setup(ROW, layer, "topk", 26).depth for layer in (8, 9, 17, 18)] == [
        *("early", "middle", "middle", "late")
    ]


def test_like_populations_take_the_features_with_the_most_examples() -> None:
    # Of one checkpoint 6 of 8 features are measured, of the other 2 of 4: half of each is compared.
    many = found(
        ["bilingual", "en", "symbol", "bilingual", "en", "en", *["unlabelled"] * 2],
        [None] * 8,
        [0] * 8,
    )
    few = found(["en", "bilingual", "unlabelled", "dead"], [None] * 4, [0] * 4)
    rows = [
        with_depth(ranked_counts(table.sample(fraction=1, shuffle=True, seed=1), PATH), setup)
        for table, setup in (
            (many, Setup(ROW, 0, "topk", 3)),
            (few, Setup(ROW.model_copy(update={"checkpoint": "b"}), 0, "topk", 3)),
        )
    ]
    curves = matched_curves(pl.concat(rows)).filter(layer=0)
    assert curves.select("checkpoint", "features", "labelled", "dictionary").rows() == [
        ("step8", 2, 3, 8),
        ("b", 1, 2, 4),
    ]
    assert set(curves["choice"]) == {"population"}


def test_the_grid_says_how_much_of_it_is_there() -> None:
    filled = {"a": [("x", 0), ("x", 2), ("y", 0), ("y", 2)], "b": [("z", 0)]}
    given = (filled, {"a": [0, 2], "b": [0]}, {"a": 4, "b": None})
    table = grid_table(*given, {"a": 3, "b": 2}, None)
    assert table.schema == GRID_SCHEMA
    assert table.select("model", "setups", "grid").rows() == [
        ("a", 4, 12),
        ("b", 1, 2),
        ("all", 5, 14),
    ]
    assert filled_share(table, "a") == "4 of 12 setups (33%)"
    paper = grid_table(*given, {"a": 3, "b": 2}, 1572)
    assert filled_share(paper, "all") == "5 of 1,572 setups (0%)"


def test_nothing_labelled_gives_counts_without_shares() -> None:
    dead = found(["dead", "unlabelled"], [None, 0.5], [0, 2])
    table = languages_table(with_depth(label_counts(dead, PATH), Setup(ROW, 3, "topk")))
    assert table["share"].null_count() == table.height
    assert table["features"].to_list() == [0, 0, 0, 0, 0, 1, 1] * 2


def test_unknown_labels_and_columns_are_refused() -> None:
    with pytest.raises(StudyError, match=r"statistics.parquet: .* label 'fr'"):
        label_counts(SMALL.with_columns(language=pl.lit("fr")), PATH)
    with pytest.raises(StudyError, match="column language should be String, is no such column"):
        label_counts(SMALL.drop("language"), PATH)
    with pytest.raises(StudyError, match="not between 0 and 1"):
        monosemanticity_histogram(SMALL.with_columns(monosemanticity=pl.lit(1.5)), PATH)


def test_means_are_exact_and_tell_single_types_apart() -> None:
    histogram = with_depth(monosemanticity_histogram(SMALL, PATH), Setup(ROW, 0, "topk"))
    table = monosemanticity_table(histogram, Bootstrap(resamples=200))
    assert table.schema == MONOSEMANTICITY_SCHEMA
    everything = at(table, 0, label="all", subset="all")
    assert everything["features"] == 4  # neither symbols nor unlabelled nor dead
    assert everything["of_dictionary"] == 4 / 7
    assert at(table, 0, label="symbol", subset="all")["mean"] == 0.9
    assert everything["mean"] == pytest.approx((0.5 + 0.25 + 1.0 + 0.25) / 4, abs=1e-12)
    assert everything["single_type_share"] == 0.25
    several = at(table, 0, label="all", subset="several_types")
    assert (several["features"], several["single_type_share"]) == (3, 0.0)
    assert several["mean"] == pytest.approx(1 / 3, abs=1e-12)
    assert at(table, 0, label="en", subset="all")["mean"] == pytest.approx(1.75 / 3)
    alone = at(table, 0, label="bilingual", subset="all")
    assert (alone["mean"], alone["low"], alone["high"]) == (0.25, None, None)
    nothing = at(table, 0, label="ja", subset="all")
    assert (nothing["features"], nothing["mean"], nothing["single_type_share"]) == (0, None, None)
    assert at(table, None, label="all", subset="all")["mean"] == everything["mean"]


def test_intervals_over_bins_are_those_over_features() -> None:
    values = np.random.default_rng(1).beta(2, 3, 500)
    rows = found(["en"] * 500, values.tolist(), [3] * 500)
    histogram = with_depth(monosemanticity_histogram(rows, PATH), Setup(ROW, 0, "topk"))
    row = at(monosemanticity_table(histogram, Bootstrap(4000)), 0, label="en", subset="all")
    generator = np.random.default_rng(2)
    means = [values[generator.integers(0, 500, 500)].mean() for _ in range(4000)]
    assert row["mean"] == pytest.approx(values.mean(), abs=1e-12)
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=2e-3)


def test_a_further_setup_changes_no_other() -> None:
    parts = [
        with_depth(monosemanticity_histogram(statistics(0.3, seed=layer), PATH), setup)
        for layer, setup in enumerate((Setup(ROW, 0, "topk"), Setup(ROW, 1, "topk")))
    ]
    alone = monosemanticity_table(parts[1], Bootstrap(100, seed=3)).filter(layer=1)
    together = monosemanticity_table(pl.concat(parts), Bootstrap(100, seed=3)).filter(layer=1)
    assert alone.equals(together)


def test_sensitivity_has_a_row_a_label_and_the_range() -> None:
    features = statistics(0.4, seed=5)
    bilingual = features.filter(language="bilingual").height
    rows = sensitivity_rows(sensitivity(features), Path("sensitivity.parquet"))
    assert with_depth(rows, Setup(ROW, 0, "topk")).schema == SENSITIVITY_SCHEMA
    default = rows.filter(choice="default", label="bilingual").row(0, named=True)
    assert (default["features"], default["labelled"]) == (bilingual, 140)
    assert default["labelled_share"] == 140 / 200
    assert default["low"] < default["share"] == bilingual / 140 < default["high"]
    ends = rows.filter(choice="range", label="bilingual").select("value", "share")
    assert dict(ends.iter_rows()) == {
        "minimum": (bilingual - 9) / 140,
        "maximum": bilingual / 140,
    }
    means = rows.filter(choice="range", label="all").select("value", "monosemanticity")
    assert dict(means.iter_rows()) == pytest.approx({"minimum": 0.41, "maximum": 0.5})
    assert rows.filter(label="all", choice="default")["share"].to_list() == [None]
