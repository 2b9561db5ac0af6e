"""The figure of what injected features change, and the numbers behind it."""

from __future__ import annotations

import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.injection.figure import injection_frame, plot_injection
from support.drawn_figures import drawn
from support.feature_results import CODES
from support.feature_tables import TABLES


def test_injections_stand_beside_their_controls() -> None:
    frame = injection_frame(TABLES["injection"], CODES)
    assert frame["group"].unique(maintain_order=True).to_list() == [
        *("en", "ja", "bilingual", "symbol")
    ]
    assert frame["evaluated"].unique(maintain_order=True).to_list() == ["en", "ja", "all"]
    figure = plot_injection(frame, "Demo")
    assert len(figure.axes) == 12
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "predicting en",
        "predicting ja",
        "all languages",
    ]
    group, random, direction = drawn(figure.axes[8])
    assert group == pytest.approx([-0.1, -0.2, -0.3, -0.4])
    assert random == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert direction == pytest.approx([0.05, 0.1, 0.15, 0.2])
    control = frame.filter(control="random", group="en", evaluated="all", step=8)
    assert control.select("low", "high").row(0) == pytest.approx((0.0, 0.04))
    with pytest.raises(StudyError, match="no injected group with measure comet"):
        injection_frame(TABLES["injection"], CODES, "comet")


def test_many_groups_and_languages_fit_a_page() -> None:
    frame = injection_frame(TABLES["injection"], CODES)
    many = pl.concat(
        [
            frame.with_columns(layer=pl.lit(layer, pl.Int32), evaluated=evaluated)
            for layer in range(5)
            for evaluated in (pl.lit(f"l{n}") for n in range(6))
        ]
    )
    figure = plot_injection(many, "Demo")
    assert len(figure.axes) == 4 * 4
    assert "layer 2" in figure.axes[-4].get_ylabel()
    assert figure.axes[3].get_title() == "predicting l5"
