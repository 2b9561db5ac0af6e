"""Tables of languages, monosemanticity and sensitivity, against features counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feature_results import sensitivity, statistics
from glossogenesis.config.sheet import Checkpoint
from glossogenesis.errors import StudyError
from glossogenesis.features.language_tables import LANGUAGES_SCHEMA, label_counts, languages_table
from glossogenesis.features.monosemanticity_tables import (
    MONOSEMANTICITY_SCHEMA,
    monosemanticity_histogram,
    monosemanticity_table,
)
from glossogenesis.features.schemas import statistics_schema
from glossogenesis.features.sensitivity_tables import SENSITIVITY_SCHEMA, sensitivity_rows
from glossogenesis.features.setups import Setup, with_setup
from glossogenesis.statistics.intervals import Bootstrap, wilson_interval

PATH = Path("statistics.parquet")
ROW = Checkpoint(model="demo", checkpoint="step8", step=8, tokens=800, source="x")


def found(labels: list[str], values: list[float | None], types: list[int]) -> pl.DataFrame:
    """A `statistics.parquet` of en and ja with these columns and nothing else."""
    schema = statistics_schema(("en", "ja"))
    given = {"language": labels, "monosemanticity": values, "token_types": types}
    return pl.DataFrame({name: given.get(name, [None] * len(labels)) for name in schema}, schema)


SMALL = found(
    ["en", "en", "en", "mixed", "unlabelled", "dead"],
    [0.5, 0.25, 1.0, 0.25, 0.9, None],
    [4, 4, 1, 3, 2, 0],
)


def at(table: pl.DataFrame, layer: int | None, **wanted: object) -> dict:
    chosen = table.filter(pl.col("layer").eq_missing(layer))
    for name, value in wanted.items():
        chosen = chosen.filter(pl.col(name) == value)
    assert chosen.height == 1
    return chosen.row(0, named=True)


def counts() -> pl.DataFrame:
    other = found(["ja", "mixed", "mixed", "dead"], [0.5] * 3 + [None], [2, 2, 2, 0])
    parts = (label_counts(table, PATH) for table in (SMALL, other))
    return pl.concat(
        [with_setup(part, Setup(ROW, layer, "topk")) for layer, part in enumerate(parts)]
    )


def test_shares_are_of_labelled_features_and_pool_over_layers() -> None:
    table = languages_table(counts())
    assert table.schema == LANGUAGES_SCHEMA
    assert table["label"].to_list() == ["en", "ja", "mixed", "unlabelled", "dead"] * 3
    assert table["layer"].to_list() == [0] * 5 + [1] * 5 + [None] * 5
    english = at(table, 0, label="en")
    low, high = wilson_interval([3], [4])
    assert (english["features"], english["labelled"], english["share"]) == (3, 4, 0.75)
    assert (english["low"], english["high"]) == (low[0], high[0])
    assert (english["step"], english["tokens"], english["phase"], english["sae"]) == (
        8,
        800,
        1,
        "topk",
    )
    assert at(table, 0, label="ja")["share"] == 0.0
    pooled = at(table, None, label="mixed")
    assert (pooled["features"], pooled["labelled"], pooled["share"]) == (3, 7, 3 / 7)
    for label in ("unlabelled", "dead"):
        row = at(table, 0, label=label)
        assert row["features"] == 1
        assert (row["share"], row["low"], row["high"]) == (None, None, None)


def test_nothing_labelled_gives_counts_without_shares() -> None:
    dead = found(["dead", "unlabelled"], [None, 0.5], [0, 2])
    table = languages_table(with_setup(label_counts(dead, PATH), Setup(ROW, 3, "topk")))
    assert table["share"].null_count() == table.height
    assert table["features"].to_list() == [0, 0, 0, 1, 1] * 2


def test_unknown_labels_and_columns_are_refused() -> None:
    with pytest.raises(StudyError, match=r"statistics.parquet: .* label 'fr'"):
        label_counts(SMALL.with_columns(language=pl.lit("fr")), PATH)
    with pytest.raises(StudyError, match="column language should be String, is no such column"):
        label_counts(SMALL.drop("language"), PATH)
    with pytest.raises(StudyError, match="not between 0 and 1"):
        monosemanticity_histogram(SMALL.with_columns(monosemanticity=pl.lit(1.5)), PATH)


def test_means_are_exact_and_tell_single_types_apart() -> None:
    histogram = with_setup(monosemanticity_histogram(SMALL, PATH), Setup(ROW, 0, "topk"))
    table = monosemanticity_table(histogram, Bootstrap(resamples=200))
    assert table.schema == MONOSEMANTICITY_SCHEMA
    everything = at(table, 0, label="all", subset="all")
    assert everything["features"] == 4  # neither unlabelled nor dead
    assert everything["mean"] == pytest.approx((0.5 + 0.25 + 1.0 + 0.25) / 4, abs=1e-12)
    assert everything["single_type_share"] == 0.25
    several = at(table, 0, label="all", subset="several_types")
    assert (several["features"], several["single_type_share"]) == (3, 0.0)
    assert several["mean"] == pytest.approx(1 / 3, abs=1e-12)
    assert at(table, 0, label="en", subset="all")["mean"] == pytest.approx(1.75 / 3)
    alone = at(table, 0, label="mixed", subset="all")
    assert (alone["mean"], alone["low"], alone["high"]) == (0.25, None, None)
    nothing = at(table, 0, label="ja", subset="all")
    assert (nothing["features"], nothing["mean"], nothing["single_type_share"]) == (0, None, None)
    assert at(table, None, label="all", subset="all")["mean"] == everything["mean"]


def test_intervals_over_bins_are_those_over_features() -> None:
    values = np.random.default_rng(1).beta(2, 3, 500)
    rows = found(["en"] * 500, values.tolist(), [3] * 500)
    histogram = with_setup(monosemanticity_histogram(rows, PATH), Setup(ROW, 0, "topk"))
    row = at(monosemanticity_table(histogram, Bootstrap(4000)), 0, label="en", subset="all")
    generator = np.random.default_rng(2)
    means = [values[generator.integers(0, 500, 500)].mean() for _ in range(4000)]
    assert row["mean"] == pytest.approx(values.mean(), abs=1e-12)
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=2e-3)


def test_a_further_setup_changes_no_other() -> None:
    parts = [
        with_setup(monosemanticity_histogram(statistics(0.3, seed=layer), PATH), setup)
        for layer, setup in enumerate((Setup(ROW, 0, "topk"), Setup(ROW, 1, "topk")))
    ]
    alone = monosemanticity_table(parts[1], Bootstrap(100, seed=3)).filter(layer=1)
    together = monosemanticity_table(pl.concat(parts), Bootstrap(100, seed=3)).filter(layer=1)
    assert alone.equals(together)


def test_sensitivity_has_a_row_a_label_and_the_range() -> None:
    features = statistics(0.4, seed=5)
    mixed = features.filter(language="mixed").height
    rows = sensitivity_rows(sensitivity(features), Path("sensitivity.parquet"))
    assert with_setup(rows, Setup(ROW, 0, "topk")).schema == SENSITIVITY_SCHEMA
    default = rows.filter(choice="default", label="mixed").row(0, named=True)
    assert (default["features"], default["labelled"]) == (mixed, 160)
    assert default["low"] < default["share"] == mixed / 160 < default["high"]
    shares = dict(rows.filter(choice="range", label="mixed").select("value", "share").iter_rows())
    assert shares == {"minimum": (mixed - 9) / 160, "maximum": mixed / 160}
    means = rows.filter(choice="range", label="all").select("value", "monosemanticity")
    assert dict(means.iter_rows()) == pytest.approx({"minimum": 0.41, "maximum": 0.5})
    assert rows.filter(label="all", choice="default")["share"].to_list() == [None]
