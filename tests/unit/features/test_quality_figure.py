"""The figure of how good autoencoders are, and the numbers behind it."""

from __future__ import annotations

import polars as pl
import pytest

from glossogenesis.features.figures import plot_sae_quality, quality_frame
from support.drawn_figures import drawn
from support.feature_tables import TABLES


def test_quality_shows_only_what_was_measured() -> None:
    frame = quality_frame(TABLES["quality"])
    figure = plot_sae_quality(frame, "Demo")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "explained variance",
        "cross-entropy recovered",
        "latents per token (L0)",
        "share of dead latents",
    ]
    assert drawn(figure.axes[0])[0] == pytest.approx([0.9, 0.85, 0.8, 0.75])
    assert drawn(figure.axes[3])[1] == pytest.approx([0, 0.02, 0.04, 0.06])
    without = TABLES["quality"].with_columns(recovered=pl.lit(None, pl.Float64))
    fewer = plot_sae_quality(quality_frame(without), "Demo")
    assert len(fewer.axes) == 3


def test_ratios_that_mean_little_do_not_blow_up_the_axis() -> None:
    wild = TABLES["quality"].with_columns(
        recovered=pl.lit(-300.0), recovered_low=pl.lit(-900.0), recovered_high=pl.lit(700.0)
    )
    frame = quality_frame(wild)
    assert set(frame.filter(measure="recovered")["value"]) == {-300.0}
    axes = plot_sae_quality(frame, "Demo").axes[1]
    assert set(drawn(axes)[0]) == {-1.0}
    assert -1.2 < axes.get_ylim()[0] < axes.get_ylim()[1] < 2.1
