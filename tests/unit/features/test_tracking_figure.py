"""The figure of features over training, and the numbers behind it."""

from __future__ import annotations

import polars as pl
import pytest

from glossogenesis.features.tracking_figure import (
    FROM_LANGUAGE,
    event_frame,
    origin_frame,
    plot_feature_tracking,
)
from support.drawn_figures import drawn
from support.feature_results import CODES
from support.feature_tables import TABLES


def test_origins_of_bilingual_features_add_up_to_one() -> None:
    origins = origin_frame(TABLES["tracking"], CODES)
    parts = origins.filter(pl.col("part") != FROM_LANGUAGE)
    sums = parts.group_by("layer", "checkpoint").agg(pl.col("value").sum())["value"]
    assert sums.to_list() == pytest.approx([1.0] * sums.len())
    became = TABLES["tracking"].filter(
        pl.col("earlier_language").is_in(CODES), layer=1, step=64, language="bilingual"
    )
    together = origins.filter(layer=1, step=64, part=FROM_LANGUAGE).row(0, named=True)
    assert together["count"] == became["count"].sum()
    assert together["low"] < together["value"] < together["high"]


def test_tracking_has_lines_of_events_above_and_bars_below() -> None:
    events, origins = event_frame(TABLES["tracking"]), origin_frame(TABLES["tracking"], CODES)
    figure = plot_feature_tracking(events, origins, CODES, "Demo")
    figure.canvas.draw()
    upper, lower = figure.axes[0], figure.axes[2]
    kept = events.filter(layer=1, part="kept")["value"].to_list()
    assert drawn(upper)[0] == kept
    tops = [bar.get_y() + bar.get_height() for bar in lower.patches[-3:]]
    assert tops == pytest.approx([1.0] * 3)
    assert len(lower.get_xticks()) == 3  # the first checkpoint has none before it
    nothing = plot_feature_tracking(events.clear(), origins.clear(), CODES, "Demo")
    assert "one checkpoint" in nothing.texts[0].get_text()
