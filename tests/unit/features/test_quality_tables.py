"""Tables of quality, tracking and injections, against what their makers write."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.features.quality_tables import (
    MEASURES,
    QUALITY_SCHEMA,
    joined_quality,
    quality_rows,
    recovery_rows,
    seed_row,
)
from glossogenesis.features.tables import tracking_counts
from glossogenesis.features.tracking import MATCHES_SCHEMA
from glossogenesis.injection.tables import (
    PERPLEXITY_SCHEMA,
    TRANSLATION_SCHEMA,
    perplexity_rows,
    translation_rows,
)
from glossogenesis.sae.quality import Measures
from glossogenesis.sae.tables import RECOVERY_SCHEMA, SEEDS_SCHEMA
from glossogenesis.statistics.intervals import wilson_interval
from glossogenesis.study.setups import SETUP_FACTS
from support.feature_results import matches, perplexity, quality, recovery, translation

PATH = Path("made-up")
SEEDS = pl.DataFrame(
    {
        "sae_a": ["a", "a", "b"],
        "sae_b": ["b", "c", "c"],
        "mmcs_ab": [0.6, 0.7, 0.8],
        "mmcs_ba": [0.5, 0.6, 0.9],
        "matched_cosine": [0.4, 0.5, 0.6],
        "mmcs_ab_chance": 0.2,
        "mmcs_ba_chance": 0.1,
        "matched_cosine_chance": 0.05,
    }
)


def test_what_is_made_up_has_the_columns_of_what_is_measured() -> None:
    assert {"tokens", *MEASURES} == {field.name for field in fields(Measures)}
    assert recovery([1], 0).select(RECOVERY_SCHEMA.names()).schema == RECOVERY_SCHEMA
    assert matches(30, 0).schema == MATCHES_SCHEMA
    assert set(SEEDS.columns) < set(SEEDS_SCHEMA)
    assert perplexity(0).schema == PERPLEXITY_SCHEMA
    assert translation(0).schema == TRANSLATION_SCHEMA


def test_quality_recovery_and_seeds_are_joined_by_language() -> None:
    rows = joined_quality(
        quality_rows(quality(2), PATH),
        recovery_rows(recovery([0, 1], 2), 1, PATH),
        seed_row(SEEDS, PATH),
    )
    own = [name for name in QUALITY_SCHEMA if name not in SETUP_FACTS]
    assert rows.schema == {name: QUALITY_SCHEMA[name] for name in own}
    assert rows["language"].to_list() == ["all", "en", "ja"]
    overall, english, _ = rows.iter_rows(named=True)
    assert (overall["explained_variance"], overall["dead_share"]) == (0.8, 0.04)
    assert overall["encoder_decoder_cosine"] == 0.4
    assert overall["recovered"] == pytest.approx(0.84)
    assert (overall["recovered_low"], overall["ablation"]) == (0.75, "mean")
    assert (overall["seed_pairs"], overall["seed_mmcs_minimum"], overall["seed_mmcs_maximum"]) == (
        3,
        0.5,
        0.9,
    )
    assert overall["seed_mmcs"] == pytest.approx(4.1 / 6)
    assert overall["seed_mmcs_chance"] == pytest.approx(0.15)
    assert english["recovered"] == overall["recovered"]
    assert (english["dead_share"], english["seed_pairs"]) == (None, None)


def test_what_was_not_measured_is_null() -> None:
    rows = joined_quality(quality_rows(quality(0), PATH), None, None)
    assert rows["recovered"].null_count() == rows["seed_mmcs"].null_count() == 3
    assert rows["recovered"].dtype == pl.Float64


def test_incomplete_files_are_named() -> None:
    broken = quality(0)
    del broken["l0"]
    with pytest.raises(StudyError, match="made-up: no entry 'l0'"):
        quality_rows(broken, PATH)
    with pytest.raises(StudyError, match="made-up: no rows of layer 3"):
        recovery_rows(recovery([1], 0), 3, PATH)
    with pytest.raises(StudyError, match="column recovered_low should be there"):
        recovery_rows(recovery([1], 0).drop("recovered_low"), 1, PATH)


EVENTS = [
    *[(0.9, "en", "en", "kept")] * 3,
    (0.7, "mixed", "en", "kept"),
    (0.6, "mixed", "mixed", "kept"),
    *[(None, "ja", None, "birth")] * 2,
    (None, "mixed", None, "birth"),
    (None, None, "en", "death"),
]
FOLLOWED = pl.DataFrame(
    EVENTS,
    {name: MATCHES_SCHEMA[name] for name in ("cosine", "language", "earlier_language", "event")},
    orient="row",
).with_columns(feature=pl.lit(0), earlier_feature=pl.lit(0))


def test_events_are_counted_over_all_labels_and_by_labels() -> None:
    table = tracking_counts(FOLLOWED, PATH)
    counted = table.select("event", "earlier_language", "language", "count", "n").rows()
    assert counted == [
        ("kept", None, None, 5, 6),
        ("birth", None, None, 3, 8),
        ("death", None, None, 1, 6),
        ("kept", "en", "en", 3, 5),
        ("kept", "en", "mixed", 1, 5),
        ("kept", "mixed", "mixed", 1, 1),
        ("birth", None, "ja", 2, 2),
        ("birth", None, "mixed", 1, 3),
        ("death", "en", None, 1, 5),
    ]
    became = table.row(4, named=True)
    low, high = wilson_interval([1], [5])
    assert (became["share"], became["low"], became["high"]) == (0.2, low[0], high[0])
    assert became["mean_cosine"] == pytest.approx(0.7)
    assert table["mean_cosine"][0] == pytest.approx((2.7 + 0.7 + 0.6) / 5)
    of_english = table.filter(earlier_language="en")
    assert of_english["share"].sum() == pytest.approx(1.0)


def test_labels_of_the_side_where_a_feature_is_not_do_not_count() -> None:
    strange = FOLLOWED.with_columns(
        earlier_language=pl.when(pl.col("event") == "birth")
        .then(pl.lit("en"))
        .otherwise("earlier_language")
    )
    assert tracking_counts(strange, PATH).equals(tracking_counts(FOLLOWED, PATH))


def test_no_matches_have_no_shares_and_unknown_events_are_refused() -> None:
    empty = tracking_counts(FOLLOWED.clear(), PATH)
    assert empty.select("event", "count", "share").rows() == [
        ("kept", 0, None),
        ("birth", 0, None),
        ("death", 0, None),
    ]
    with pytest.raises(StudyError, match="unknown event 'split'"):
        tracking_counts(FOLLOWED.with_columns(event=pl.lit("split")), PATH)


def test_draws_of_controls_are_one_row_with_their_range() -> None:
    table = perplexity_rows(perplexity(0), PATH)
    keys = ("evaluated", "group", "control")
    assert table.height == 3 * (1 + 4 * 3)
    random = table.filter(evaluated="all", group="bilingual", control="random").row(0, named=True)
    assert (random["draws"], random["measure"], random["n"]) == (3, "perplexity", 900)
    assert random["difference"] == pytest.approx(0.01)
    assert (random["difference_minimum"], random["difference_maximum"]) == pytest.approx(
        (0.0, 0.02)
    )
    bilingual = table.filter(evaluated="all", group="bilingual", control="none").row(0, named=True)
    assert (bilingual["draws"], bilingual["difference_minimum"]) == (None, None)
    assert bilingual["difference"] == pytest.approx(-0.1)
    assert table.select(keys).row(0) == ("en", "none", "none")
    shuffled = perplexity_rows(perplexity(0).sample(fraction=1, shuffle=True, seed=1), PATH)
    assert shuffled.sort(keys).equals(table.sort(keys))


def test_translations_are_rows_of_a_pair_and_metric() -> None:
    table = translation_rows(translation(0), PATH)
    assert set(table["evaluated"]) == {"en→ja", "ja→en"}
    assert set(table["measure"]) == {"bleu", "chrf"}
    row = table.filter(evaluated="en→ja", measure="bleu", group="bilingual", control="none")
    assert row["difference"].to_list() == pytest.approx([1.0])
    assert translation_rows(translation(0).clear(), PATH).is_empty()
