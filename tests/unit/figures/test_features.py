"""Figures of features: the frames behind them, and what is drawn of them."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from feature_results import (
    CODES,
    matches,
    perplexity,
    quality,
    recovery,
    sensitivity,
    statistics,
    translation,
)
from glossogenesis.config.sheet import Checkpoint
from glossogenesis.errors import StudyError
from glossogenesis.features.injection_summary import perplexity_rows, translation_rows
from glossogenesis.features.language_tables import label_counts, languages_table
from glossogenesis.features.monosemanticity_tables import (
    monosemanticity_histogram,
    monosemanticity_table,
)
from glossogenesis.features.quality_tables import joined_quality, quality_rows, recovery_rows
from glossogenesis.features.sensitivity_tables import sensitivity_rows
from glossogenesis.features.setups import Setup, checkpoint_facts, with_setup
from glossogenesis.features.stage_tables import stages_table
from glossogenesis.features.tracking_tables import tracking_counts
from glossogenesis.figures.feature_frames import (
    heat_frame,
    monosemanticity_frame,
    rows_of_sae,
    share_frame,
    shown_layers,
    size_frame,
)
from glossogenesis.figures.features import (
    plot_feature_heatmap,
    plot_feature_languages,
    plot_model_sizes,
    plot_monosemanticity,
    stage_numbers,
)
from glossogenesis.figures.injection_figure import injection_frame, plot_injection
from glossogenesis.figures.quality_figure import plot_sae_quality, quality_frame
from glossogenesis.figures.tracking_figure import (
    FROM_LANGUAGE,
    event_frame,
    origin_frame,
    plot_feature_tracking,
)
from glossogenesis.patching.tables import with_checkpoint
from glossogenesis.statistics.intervals import Bootstrap

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"
PATH = Path("made-up")
STEPS = [0, 8, 64, 512]
MIXED_SHARES = [0.05, 0.55, 0.1, 0.3]


def row(step: int, model: str = "demo") -> Checkpoint:
    return Checkpoint(
        model=model,
        checkpoint=f"step{step}",
        step=step,
        tokens=step * 4096,
        phase=1 + (step > 8),
        source="x",
    )


def tables(
    steps: list[int] = STEPS, layers: tuple[int, ...] = (1, 3), model: str = "demo"
) -> dict[str, pl.DataFrame]:
    """Every table of a small study."""
    labels, histograms, qualities, other, followed = [], [], [], [], []
    for place, step in enumerate(steps):
        for layer in layers:
            setup = Setup(row(step, model), layer, "topk")
            found = statistics(MIXED_SHARES[place], seed=10 * place + layer)
            labels.append(with_setup(label_counts(found, PATH), setup))
            histograms.append(with_setup(monosemanticity_histogram(found, PATH), setup))
            other.append(with_setup(sensitivity_rows(sensitivity(found), PATH), setup))
            spliced = recovery_rows(recovery(layers, place), layer, PATH)
            measured = joined_quality(quality_rows(quality(place), PATH), spliced, None)
            qualities.append(with_setup(measured, setup))
            if place:
                counted = tracking_counts(matches(100, 10 * place + layer), PATH)
                followed.append(with_setup(counted, setup))
    languages = languages_table(pl.concat(labels))
    injected = [
        with_checkpoint(part, checkpoint_facts(row(step, model)))
        for place, step in enumerate(steps)
        for part in (
            perplexity_rows(perplexity(place, layers[:1]), PATH),
            translation_rows(translation(place), PATH),
        )
    ]
    return {
        "languages": languages,
        "monosemanticity": monosemanticity_table(pl.concat(histograms), Bootstrap(100)),
        "quality": pl.concat(qualities),
        "stages": stages_table(languages, pl.concat(other)),
        "tracking": pl.concat(followed) if followed else pl.DataFrame(),
        "injection": pl.concat(injected),
    }


TABLES = tables()
ONE = tables(STEPS[1:2], (2,))


def all_figures(made: dict[str, pl.DataFrame]) -> list[Figure]:
    languages, monosemanticity = made["languages"], made["monosemanticity"]
    figures = [
        plot_feature_languages(share_frame(languages, CODES), CODES, made["stages"], "Demo"),
        plot_monosemanticity(monosemanticity_frame(monosemanticity, CODES), CODES, "Demo"),
        plot_feature_heatmap(heat_frame(languages, monosemanticity), "Demo"),
        plot_model_sizes(size_frame(languages, monosemanticity, ["demo"]), {"demo": "Demo"}),
        plot_sae_quality(quality_frame(made["quality"]), "Demo"),
        plot_injection(injection_frame(made["injection"], CODES), "Demo"),
        plot_injection(injection_frame(made["injection"], CODES, "bleu"), "Demo", "bleu"),
    ]
    if not made["tracking"].is_empty():
        events, origins = event_frame(made["tracking"]), origin_frame(made["tracking"], CODES)
        figures.append(plot_feature_tracking(events, origins, CODES, "Demo"))
    return figures


def drawn(axes, column: int = 1) -> list[list[float]]:
    """Coordinates of the lines in a panel that have a marker."""
    return [
        np.asarray(line.get_data()[column], dtype=float).tolist()
        for line in axes.get_lines()
        if line.get_marker() != "None" and len(line.get_xdata())
    ]


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_share_lines_are_the_numbers_of_the_table() -> None:
    frame = share_frame(TABLES["languages"], CODES)
    figure = plot_feature_languages(frame, CODES, TABLES["stages"], "Demo")
    figure.canvas.draw()
    assert legend_texts(figure) == ["en", "ja", "mixed"]
    for axes, layer in zip(figure.axes, (1, 3), strict=True):
        table = TABLES["languages"].filter(layer=layer)
        for line, label in zip(drawn(axes), ("en", "ja", "mixed"), strict=True):
            assert line == table.filter(label=label)["share"].to_list()
        assert drawn(axes, 0)[0] == [step * 4096 for step in STEPS]
    assert [text.get_text() for text in figure.axes[0].texts] == ["phase 1 | 2"]
    sums = frame.group_by("layer", "checkpoint").agg(pl.col("value").sum())["value"]
    assert sums.to_list() == pytest.approx([1.0] * sums.len())


def test_titles_tell_the_stages_of_the_default_choices() -> None:
    stages = TABLES["stages"]
    figure = plot_feature_languages(share_frame(TABLES["languages"], CODES), CODES, stages, "Demo")
    main = stages.filter(choice="default")
    for axes, layer in zip(figure.axes, (1, 3), strict=True):
        told = main.filter(layer=layer).row(0, named=True)
        first = f"layer {layer}\nmixed {told['height_share']:.2f} ↘ {told['lowest_share']:.2f}"
        assert axes.get_title().startswith(first)
    heading = figure.get_suptitle().replace("\n", " ")
    pooled = main.filter(pl.col("layer").is_null())["verdict"][0]
    assert heading == f"Demo: over all layers, the mixed share {pooled}; " + (
        "2 of 2 other choices of method agree"
    )


@pytest.mark.parametrize(
    ("significant", "rise", "text"),
    [
        ((True, True), 0.07, "mixed 0.53 ↘ 0.08* ↗ 0.15*"),
        ((True, False), 0.07, "mixed 0.53 ↘ 0.08* ↗ 0.15 n.s."),
        ((True, False), -0.01, "mixed 0.53 ↘ 0.08* → 0.15 n.s."),
    ],
)
def test_stages_in_a_few_signs(significant: tuple[bool, bool], rise: float, text: str) -> None:
    row = {"fall": 0.45, "rise": rise, "height_share": 0.53, "lowest_share": 0.08}
    row |= {"end_share": 0.15, "fall_significant": significant[0]}
    assert stage_numbers(row | {"rise_significant": significant[1]}) == text
    assert stage_numbers({"fall": None}) == ""


def test_monosemanticity_has_a_line_a_label_and_one_of_all() -> None:
    frame = monosemanticity_frame(TABLES["monosemanticity"], CODES)
    figure = plot_monosemanticity(frame, CODES, "Demo")
    assert legend_texts(figure) == ["en", "ja", "mixed", "all labelled"]
    chosen = TABLES["monosemanticity"].filter(layer=3, subset="all", label="all")
    assert drawn(figure.axes[1])[-1] == chosen["mean"].to_list()


def test_heat_maps_have_a_cell_a_layer_and_checkpoint() -> None:
    made = tables(layers=tuple(range(9)))
    frame = heat_frame(made["languages"], made["monosemanticity"])
    assert frame.height == 2 * 9 * 4
    figure = plot_feature_heatmap(frame, "Demo")
    mesh = figure.axes[0].collections[0]
    cells = np.asarray(mesh.get_array()).reshape(9, 4)
    of_layer = made["languages"].filter(layer=5, label="mixed")["share"].to_list()
    assert cells[5].tolist() == of_layer
    assert shown_layers(made["languages"]) == [0, 2, 3, 5, 6, 8]
    assert set(share_frame(made["languages"], CODES)["layer"]) == {0, 2, 3, 5, 6, 8}


def test_sizes_are_pooled_over_layers_in_the_order_of_the_study() -> None:
    other = tables(model="small")
    both = [pl.concat([TABLES[name], other[name]]) for name in ("languages", "monosemanticity")]
    frame = size_frame(*both, ["small", "demo"])
    figure = plot_model_sizes(frame, {"demo": "Demo 1M", "small": "Small"})
    assert legend_texts(figure) == ["Small", "Demo 1M"]
    pooled = TABLES["languages"].filter(pl.col("layer").is_null(), label="mixed")
    assert drawn(figure.axes[0])[1] == pooled["share"].to_list()
    with pytest.raises(StudyError, match="no rows of model 'large'"):
        size_frame(*both, ["small", "large"])


def test_models_with_other_phases_share_an_axis() -> None:
    other = tables(model="small")
    late = [
        other[name].with_columns(phase=pl.lit(1, pl.Int32))
        for name in ("languages", "monosemanticity")
    ]
    both = [
        pl.concat([TABLES[name], part])
        for name, part in zip(("languages", "monosemanticity"), late, strict=True)
    ]
    figure = plot_model_sizes(size_frame(*both, ["demo", "small"]), {})
    figure.canvas.draw()
    assert not figure.axes[0].texts


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


def test_origins_of_mixed_features_add_up_to_one() -> None:
    origins = origin_frame(TABLES["tracking"], CODES)
    parts = origins.filter(pl.col("part") != FROM_LANGUAGE)
    sums = parts.group_by("layer", "checkpoint").agg(pl.col("value").sum())["value"]
    assert sums.to_list() == pytest.approx([1.0] * sums.len())
    became = TABLES["tracking"].filter(
        pl.col("earlier_language").is_in(CODES), layer=1, step=64, language="mixed"
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


def test_injections_stand_beside_their_controls() -> None:
    frame = injection_frame(TABLES["injection"], CODES)
    assert frame["group"].unique(maintain_order=True).to_list() == ["en", "ja", "bilingual"]
    assert frame["evaluated"].unique(maintain_order=True).to_list() == ["en", "ja", "all"]
    figure = plot_injection(frame, "Demo")
    assert len(figure.axes) == 9
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
    assert len(figure.axes) == 6 * 4
    assert "layer 4" in figure.axes[-4].get_ylabel()
    assert figure.axes[3].get_title() == "predicting l5"


def test_one_checkpoint_and_one_layer_can_be_drawn() -> None:
    for figure in all_figures(ONE):
        figure.canvas.draw()
    places = [x[0] for x in drawn(all_figures(ONE)[0].axes[0], 0)]
    assert places == sorted(set(places))


def test_rows_of_an_unknown_autoencoder_are_refused() -> None:
    assert rows_of_sae(TABLES["languages"], "topk", PATH).height == TABLES["languages"].height
    with pytest.raises(StudyError, match="made-up: no rows of autoencoder 'relu'; it has topk"):
        rows_of_sae(TABLES["languages"], "relu", PATH)


def test_nothing_labelled_cannot_be_drawn() -> None:
    nothing = TABLES["languages"].with_columns(share=pl.lit(None, pl.Float64))
    with pytest.raises(StudyError, match="no feature has a language or is mixed"):
        share_frame(nothing, CODES)


@pytest.mark.parametrize("made", [TABLES, ONE], ids=["several", "one"])
def test_nothing_is_cut_off_and_no_text_is_below_seven_points(made: dict) -> None:
    for figure in all_figures(made):
        figure.canvas.draw()
        whole = figure.bbox
        content = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert content.x0 >= whole.x0 - 1
        assert content.x1 <= whole.x1 + 1
        assert content.y0 >= whole.y0 - 1
        assert content.y1 <= whole.y1 + 1
        assert min(text.get_fontsize() for text in figure.findobj(match=Text)) >= 7


@pytest.mark.parametrize(
    ("program", "table", "more"),
    [
        ("plot_feature_languages", "languages", ("stages",)),
        ("plot_monosemanticity", "monosemanticity", ()),
        ("plot_feature_heatmap", "languages", ("monosemanticity",)),
        ("plot_model_sizes", "languages", ("monosemanticity",)),
        ("plot_sae_quality", "quality", ()),
        ("plot_feature_tracking", "tracking", ()),
        ("plot_injection", "injection", ()),
    ],
)
def test_programs_write_three_files(
    tmp_path: Path,
    program: str,
    table: str,
    more: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (table, *more):
        TABLES[name].write_parquet(tmp_path / f"{name}.parquet")
    settings = {"model": "demo", "label": "Demo", "languages": list(CODES), "sae": "topk"}
    settings["models"] = {"demo": "Demo"}
    words = [program, "--settings", json.dumps(settings), "--table", tmp_path / f"{table}.parquet"]
    for name in more:
        words += [f"--{name}", tmp_path / f"{name}.parquet"]
    words += ["--output", tmp_path / "out" / "x.svg"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    runpy.run_path(str(SCRIPTS / f"{program}.py"), run_name="__main__")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["x.csv", "x.pdf", "x.svg"]


def test_ratios_that_mean_little_do_not_blow_up_the_axis() -> None:
    wild = TABLES["quality"].with_columns(
        recovered=pl.lit(-300.0), recovered_low=pl.lit(-900.0), recovered_high=pl.lit(700.0)
    )
    frame = quality_frame(wild)
    assert set(frame.filter(measure="recovered")["value"]) == {-300.0}
    axes = plot_sae_quality(frame, "Demo").axes[1]
    assert set(drawn(axes)[0]) == {-1.0}
    assert -1.2 < axes.get_ylim()[0] < axes.get_ylim()[1] < 2.1
