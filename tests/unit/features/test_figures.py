"""Figures of features: the frames behind them, and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from glossogenesis.exceptions import StudyError
from glossogenesis.features.figures import (
    plot_bilingual_features,
    plot_feature_heatmap,
    plot_feature_languages,
    plot_model_sizes,
    plot_monosemanticity,
    plot_sae_quality,
    quality_frame,
    stage_numbers,
)
from glossogenesis.features.frames import (
    bilingual_frame,
    heat_frame,
    monosemanticity_frame,
    rows_of_sae,
    share_frame,
    shown_layers,
    size_frame,
)
from glossogenesis.features.tracking_figure import event_frame, origin_frame, plot_feature_tracking
from glossogenesis.injection.figure import injection_frame, plot_injection
from glossogenesis.workflow.figures import draw_figure
from support.drawn_figures import check_pages, check_program, drawn, legend_texts
from support.feature_results import CODES
from support.feature_tables import ONE, STEPS, TABLES, feature_tables


def all_figures(made: dict[str, pl.DataFrame]) -> list[Figure]:
    languages, monosemanticity = made["languages"], made["monosemanticity"]
    figures = [
        plot_feature_languages(share_frame(languages, CODES), CODES, made["stages"], "Demo"),
        plot_monosemanticity(monosemanticity_frame(monosemanticity, CODES), CODES, "Demo"),
        plot_bilingual_features(bilingual_frame(languages), "Demo"),
        plot_feature_heatmap(heat_frame(languages, monosemanticity), "Demo"),
        plot_model_sizes(size_frame(languages, monosemanticity, ["demo"]), {"demo": "Demo"}, "3"),
        plot_sae_quality(quality_frame(made["quality"]), "Demo"),
        plot_injection(injection_frame(made["injection"], CODES), "Demo"),
        plot_injection(injection_frame(made["injection"], CODES, "bleu"), "Demo", "bleu"),
    ]
    if not made["tracking"].is_empty():
        events, origins = event_frame(made["tracking"]), origin_frame(made["tracking"], CODES)
        figures.append(plot_feature_tracking(events, origins, CODES, "Demo"))
    return figures


def test_share_lines_are_the_numbers_of_the_table() -> None:
    frame = share_frame(TABLES["languages"], CODES)
    figure = plot_feature_languages(frame, CODES, TABLES["stages"], "Demo")
    figure.canvas.draw()
    assert legend_texts(figure) == ["en", "ja", "bilingual", "labelled, of all features"]
    for axes, layer in zip(figure.axes, (1, 3), strict=True):
        table = TABLES["languages"].filter(layer=layer)
        *lines, labelled = drawn(axes)
        for line, label in zip(lines, ("en", "ja", "bilingual"), strict=True):
            assert line == table.filter(label=label)["share"].to_list()
        assert labelled == table.filter(label="en")["labelled_share"].to_list()
        assert drawn(axes, 0)[0] == [step * 4096 for step in STEPS]
    assert [text.get_text() for text in figure.axes[0].texts] == ["phase 1 | 2"]
    shares = frame.filter(pl.col("label") != "labelled")
    sums = shares.group_by("layer", "checkpoint").agg(pl.col("value").sum())["value"]
    assert sums.to_list() == pytest.approx([1.0] * sums.len())


def test_titles_tell_the_stages_of_the_default_choices() -> None:
    stages = TABLES["stages"]
    figure = plot_feature_languages(share_frame(TABLES["languages"], CODES), CODES, stages, "Demo")
    main = stages.filter(choice="default")
    for axes, layer in zip(figure.axes, (1, 3), strict=True):
        row = main.filter(layer=layer).row(0, named=True)
        first = f"layer {layer}\nbilingual {row['height_share']:.2f} ↘ {row['lowest_share']:.2f}"
        assert axes.get_title().startswith(first)
    heading = figure.get_suptitle().replace("\n", " ")
    pooled = main.filter(pl.col("layer").is_null(), depth="all")["verdict"][0]
    assert heading == f"Demo: over all layers, the bilingual share {pooled}; " + (
        "3 of 3 other choices of method agree"
    )


@pytest.mark.parametrize(
    ("significant", "rise", "text"),
    [
        ((True, True), 0.07, "bilingual 0.53 ↘ 0.08* ↗ 0.15*"),
        ((True, False), 0.07, "bilingual 0.53 ↘ 0.08* ↗ 0.15 n.s."),
        ((True, False), -0.01, "bilingual 0.53 ↘ 0.08* → 0.15 n.s."),
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
    assert legend_texts(figure) == [
        *("en", "ja", "bilingual", "all labelled", "labelled, of all features")
    ]
    chosen = TABLES["monosemanticity"].filter(layer=3, subset="all", label="all")
    assert drawn(figure.axes[1])[-2] == chosen["mean"].to_list()
    assert drawn(figure.axes[1])[-1] == chosen["of_dictionary"].to_list()


def test_bilingual_shares_by_third_and_by_layer() -> None:
    frame = bilingual_frame(TABLES["languages"])
    figure = plot_bilingual_features(frame, "Demo")
    assert legend_texts(figure)[:3] == ["early third", "middle third", "all layers"]
    assert legend_texts(figure)[3:] == [f"step {step}" for step in STEPS]
    over_training, over_layers, labelled, _ = figure.axes
    rows = TABLES["languages"].filter(pl.col("layer").is_null(), label="bilingual")
    for line, depth in zip(drawn(over_training), ("early", "middle", "all"), strict=True):
        assert line == rows.filter(depth=depth)["share"].to_list()
    assert drawn(labelled)[-1] == rows.filter(depth="all")["labelled_share"].to_list()
    by_layer = TABLES["languages"].filter(pl.col("layer").is_not_null(), label="bilingual")
    assert drawn(over_layers)[1] == by_layer.filter(step=8)["share"].to_list()
    assert drawn(over_layers, 0)[1] == [1, 3]
    assert over_layers.get_ylim() == (0, 1)


def test_heat_maps_have_a_cell_a_layer_and_checkpoint() -> None:
    made = feature_tables(layers=tuple(range(9)))
    frame = heat_frame(made["languages"], made["monosemanticity"])
    assert frame.height == 3 * 9 * 4
    figure = plot_feature_heatmap(frame, "Demo")
    mesh = figure.axes[0].collections[0]
    cells = np.asarray(mesh.get_array()).reshape(9, 4)
    of_layer = made["languages"].filter(layer=5, label="bilingual")["share"].to_list()
    assert cells[5].tolist() == of_layer
    assert shown_layers(made["languages"]) == [0, 2, 3, 5, 6, 8]
    assert set(share_frame(made["languages"], CODES)["layer"]) == {0, 2, 3, 5, 6, 8}


def test_sizes_are_pooled_over_layers_in_the_order_of_the_study() -> None:
    other = feature_tables(model="small")
    both = [pl.concat([TABLES[name], other[name]]) for name in ("languages", "monosemanticity")]
    frame = size_frame(*both, ["small", "demo"])
    figure = plot_model_sizes(frame, {"demo": "Demo 1M", "small": "Small"}, "7 of 9 setups (78%)")
    assert figure.get_suptitle() == "7 of 9 setups (78%)"
    assert legend_texts(figure) == ["Small", "Demo 1M"]
    pooled = TABLES["languages"].filter(depth="all", label="bilingual")
    assert drawn(figure.axes[0])[1] == pooled["share"].to_list()
    with pytest.raises(StudyError, match="no rows of model 'large'"):
        size_frame(*both, ["small", "large"])


def test_models_with_other_phases_share_an_axis() -> None:
    other = feature_tables(model="small")
    late = [
        other[name].with_columns(phase=pl.lit(1, pl.Int32))
        for name in ("languages", "monosemanticity")
    ]
    both = [
        pl.concat([TABLES[name], part])
        for name, part in zip(("languages", "monosemanticity"), late, strict=True)
    ]
    figure = plot_model_sizes(size_frame(*both, ["demo", "small"]), {}, "3 of 9")
    figure.canvas.draw()
    assert not figure.axes[0].texts


def test_lines_of_a_single_checkpoint_stand_side_by_side() -> None:
    figure = plot_feature_languages(
        share_frame(ONE["languages"], CODES), CODES, ONE["stages"], "Demo"
    )
    places = [x[0] for x in drawn(figure.axes[0], 0)]
    assert places == sorted(set(places))


def test_rows_of_an_unknown_autoencoder_are_refused() -> None:
    assert rows_of_sae(TABLES["languages"], "topk").height == TABLES["languages"].height
    with pytest.raises(StudyError, match="no rows of autoencoder 'relu'; it has topk"):
        rows_of_sae(TABLES["languages"], "relu")


def test_nothing_labelled_cannot_be_drawn() -> None:
    nothing = TABLES["languages"].with_columns(share=pl.lit(None, pl.Float64))
    for frame in (lambda: share_frame(nothing, CODES), lambda: bilingual_frame(nothing)):
        with pytest.raises(StudyError, match="no feature is labelled; lower"):
            frame()


def test_mixed_features_are_drawn_where_there_are_any() -> None:
    some = TABLES["languages"].with_columns(
        features=pl.when(label="mixed").then(3).otherwise("features")
    )
    assert "mixed" in set(share_frame(some, CODES)["label"])


@pytest.mark.parametrize("made", [TABLES, ONE], ids=["several", "one"])
def test_nothing_is_cut_off_and_no_text_is_below_seven_points(made: dict) -> None:
    check_pages(all_figures(made))


def test_what_is_left_out_is_in_the_heading() -> None:
    settings = {"models": {"demo": "Demo"}, "languages": list(CODES), "sae": "topk"}
    tables = {f"features_{name}": table for name, table in TABLES.items()}
    left_out = {"features_quality": ["demo/late/layer_1/topk", "demo/late", "other/end"]}
    figure, _ = draw_figure("sae_quality", "demo", settings, tables, left_out)
    assert figure.get_suptitle().endswith("\nleft out, as not finite: late")
    left_out = {"features_languages": [f"other/step{step}/layer_0/topk" for step in range(4)]}
    figure, _ = draw_figure("model_sizes", "figures", settings, tables, left_out)
    assert figure.get_suptitle().endswith("\nleft out, as not finite: 4 checkpoints")
    left_out = {"features_injection": ["demo/early"]}
    tables["features_injection"] = tables["features_injection"].clear()
    figure, numbers = draw_figure("injection", "demo", settings, tables, left_out)
    assert (figure.get_axes(), numbers.height) == ([], 0)


def test_the_program_draws_all_figures(tmp_path: Path) -> None:
    settings = {"models": {"demo": "Demo"}, "languages": list(CODES), "sae": "topk"}
    tables = {f"features_{name}": table for name, table in TABLES.items()}
    names = ("feature_languages", "monosemanticity", "feature_heatmap", "sae_quality")
    names += ("feature_tracking", "injection", "bilingual_features")
    figures = [*(f"demo/{name}" for name in names), "model_sizes"]
    check_program(figures, settings, tables, tmp_path)
