"""Figures of the robustness study: the frames behind them, and what is drawn of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.figures.circuits import (
    circuit_frame,
    component_frame,
    plot_circuit_ablation,
    plot_component_effects,
)
from glossogenesis.robustness.figures.features import (
    MEANS,
    MOST_LABELS,
    cue_frame,
    knockout_frame,
    plot_cues,
    plot_knockout,
    plot_spelling_variants,
    variant_frame,
)
from glossogenesis.robustness.figures.frames import best_layers, equal_layer, readable
from glossogenesis.robustness.tables.circuit import circuit_table
from glossogenesis.robustness.tables.classification import knockout_table, with_best_layers
from glossogenesis.robustness.tables.comparisons import with_rows_over_runs
from glossogenesis.robustness.tables.features import cues_table, features_table, variants_table
from glossogenesis.robustness.tables.inputs import Results, compared_models
from glossogenesis.statistics.intervals import Bootstrap
from support.drawn_figures import check_pages, check_program, drawn, legend_texts
from support.planted_models import CHANCE, FIRST, LABELS, OTHER, Planted
from support.robustness_results import SAE, THRESHOLDS, settings, write_study

MODELS = {"first": "Demo", "other": "Demo, continued in Japanese"}
THRESHOLD = THRESHOLDS[0]
Tables = dict[str, pl.DataFrame]


def made(folder: Path, *models: Planted) -> Tables:
    """Every table that is drawn."""
    write_study(folder, *models)
    written = settings(*models)
    known = compared_models(written["models"], written["seeds"])
    results, bootstrap = Results(folder), Bootstrap(100)
    of_runs = {
        "circuit": circuit_table(results, known, THRESHOLDS, bootstrap),
        "features": features_table(results, known, [SAE], bootstrap),
        "knockout": knockout_table(results, known, [SAE], bootstrap),
        "cues": cues_table(results, known, [SAE], bootstrap),
        "variants": variants_table(results, known, [SAE], bootstrap),
    }
    tables = {name: with_rows_over_runs(table, {SAE: SAE}) for name, table in of_runs.items()}
    return tables | {"knockout": with_best_layers(tables["knockout"])}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return made(tmp_path_factory.mktemp("two"), FIRST, OTHER)


def all_figures(tables: Tables, models: dict[str, str]) -> list[Figure]:
    first = tables["circuit"].filter(model=next(iter(models)))
    circuit = circuit_frame(tables["circuit"], models, THRESHOLD)
    knockout = knockout_frame(tables["knockout"], tables["features"], models, SAE)
    cues = cue_frame(tables["cues"], tables["features"], tables["knockout"], models, SAE)
    variants = variant_frame(tables["variants"], tables["features"], models, SAE)
    return [
        plot_component_effects(component_frame(first, THRESHOLD), "Demo"),
        plot_circuit_ablation(circuit, models),
        plot_knockout(knockout, models),
        plot_cues(cues, models),
        plot_spelling_variants(variants, models),
    ]


def points(axes: Axes, axis: int = 1) -> list[list[float]]:
    """Coordinates of the points in a panel, a list a series."""
    return drawn(axes, axis, ignored="_+")


def test_effects_have_a_cell_and_a_point_a_component(tables: Tables) -> None:
    frame = component_frame(tables["circuit"].filter(model="other"), THRESHOLD)
    assert frame.select("set", "layer", "component").rows()[:2] == [
        ("own", 0, "attention"),
        ("own", 0, "mlp"),
    ]
    figure = plot_component_effects(frame, "Demo")
    heat, intervals = figure.axes[:2]
    cells = np.asarray(heat.collections[0].get_array()).reshape(3, 2)
    own = frame.filter(set="own")
    assert cells.ravel().tolist() == own["value"].to_list()
    assert len(heat.patches) == own["in_circuit"].sum()
    for effects, component in zip(points(intervals, 0), ("attention", "mlp"), strict=True):
        assert effects == own.filter(component=component)["value"].to_list()
    assert intervals.get_title(loc="right") == f"30 pairs; circuit: {len(heat.patches)} of 6"
    assert {"attention", "MLP", "threshold 0.01", "in the circuit"} <= set(legend_texts(figure))
    assert figure.axes[-1].get_ylabel() == "mean effect"


def test_circuits_are_bars_with_random_ones_on_them(tables: Tables) -> None:
    frame = circuit_frame(tables["circuit"], MODELS, THRESHOLD)
    assert frame["circuit"].unique(maintain_order=True).to_list() == ["effect", "random"]
    figure = plot_circuit_ablation(frame, MODELS)
    sufficiency, _, necessity, _ = figure.axes
    heights = [bar.get_height() for bar in sufficiency.patches]
    assert heights == pytest.approx([35 / 37] * 3 + [30 / 38] * 3)
    assert points(sufficiency)[0] == pytest.approx([15 / 37] * 3)
    assert necessity.patches[0].get_height() == pytest.approx(100 * 26 / 40)
    ticks = [tick.get_text() for tick in necessity.get_xticklabels()]
    assert ticks == ["mean", "zero", "other post"]
    assert legend_texts(figure) == [*MODELS.values(), "random circuits of the same size"]
    assert "n = 40 held-out posts" in figure.get_suptitle()


def test_knockouts_at_best_and_equal_layers_with_controls(tables: Tables) -> None:
    frame = knockout_frame(tables["knockout"], tables["features"], MODELS, SAE)
    assert frame["label"].unique(maintain_order=True).to_list()[-4:] == list(MEANS.values())
    # At best layers each label is looked at where the others choose.
    assert frame.filter(rule="best")["layer"].null_count() == frame.height // 2
    figure = plot_knockout(frame, MODELS)
    best, equal = figure.axes
    assert best.get_title() == "the layer that other labels choose\n"
    assert "Demo: layer 1 (L0 6.66)" in equal.get_title()
    series = points(best, 0)
    assert len(series) == 2 * 4
    labels = [tick.get_text() for tick in best.get_yticklabels()]
    assert sorted(labels[:-4]) == sorted(LABELS)
    assert labels[-4] == "mean: recall"
    top = frame.filter(rule="best", model="first", condition="top")["value"].to_list()
    assert series[3] == top
    assert top[:-4] == sorted(top[:-4])
    # Two labels of four lose 4 posts of 40, two lose 5; and as many posts are given another label.
    assert top[-4:] == pytest.approx([-45, 15, -11.25, -9])
    assert len(legend_texts(figure)) == 2 + 3
    assert len(points(equal, 0)) == 2 * 4


def test_layers_that_are_compared(tables: Tables) -> None:
    knockout = tables["knockout"]
    assert best_layers(knockout, MODELS) == {"first": 1, "other": 1}
    assert equal_layer(knockout, ["first", "other"]) == 1
    without = knockout.filter(~((pl.col("model") == "other") & (pl.col("layer") == 1)))
    assert equal_layer(without, ["first", "other"]) == 2
    alone = without.filter((pl.col("model") == "first") | (pl.col("layer") == 7))
    assert equal_layer(alone, ["first", "other"]) is None


def test_many_labels_fit_a_page(tables: Tables) -> None:
    frame = knockout_frame(tables["knockout"], tables["features"], MODELS, SAE)
    of_labels = frame.filter(~pl.col("label").is_in(list(MEANS.values())))
    many = pl.concat(
        [
            *(
                of_labels.with_columns(
                    pl.concat_str("label", pl.lit(f" {number}")).alias(name)
                    for name in ("label", "shown")
                )
                for number in range(30)
            ),
            frame.filter(pl.col("label").is_in(list(MEANS.values()))),
        ]
    )
    figure = plot_knockout(many, MODELS)
    assert len(figure.axes[0].get_yticks()) == MOST_LABELS + len(MEANS)
    assert figure.get_figheight() < 9.5


def test_labels_that_the_font_lacks_are_numbered() -> None:
    assert readable(["cars", "就活", "食品"]) == {
        "cars": "cars",
        "就活": "label 2",
        "食品": "label 3",
    }


def test_cues_have_a_point_a_label_and_one_of_the_mean(tables: Tables) -> None:
    frame = cue_frame(tables["cues"], tables["features"], tables["knockout"], MODELS, SAE)
    assert set(frame["layer"]) == {1}
    figure = plot_cues(frame, MODELS)
    surfaces = figure.axes[0]
    labels, mean, *_ = points(surfaces, 0)
    shares = frame.filter(model="first", measure="top_surface_share")
    assert labels == shares.filter(pl.col("label") != "mean")["value"].to_list()
    assert mean == shares.filter(label="mean")["value"].to_list()
    assert len(points(surfaces)) == 2 * len(MODELS)
    assert legend_texts(figure)[0] == "Demo, layer 1 (L0 6.66), n = 3"
    nothing = tables["cues"].with_columns(value=pl.lit(None, pl.Float64))
    with pytest.raises(StudyError, match="no label has features that fire"):
        cue_frame(nothing, tables["features"], tables["knockout"], MODELS, SAE)


def test_survival_has_a_line_a_model_and_arm_with_chance(tables: Tables) -> None:
    frame = variant_frame(tables["variants"], tables["features"], MODELS, SAE)
    figure = plot_spelling_variants(frame, MODELS)
    assert figure.axes[0].get_title() == "layer 0 (L0 5.66 and 6.66)"
    series = points(figure.axes[2])
    assert len(series) == 4
    expected = frame.filter(layer=2, model="first", arm="carrier")["value"].to_list()
    assert series[1] == expected == pytest.approx([0.6, 0.7])
    chance = [line for line in figure.axes[0].get_lines() if line.get_marker() == "_"]
    assert len(chance) == 4
    assert chance[0].get_ydata().tolist() == pytest.approx([0.1, 0.25])
    assert legend_texts(figure)[0] == "Demo: a sentence of its own"
    assert "n = 5 concepts" in figure.get_suptitle()


def test_classifiers_at_chance_have_figures_that_say_so(tmp_path: Path) -> None:
    guessing = replace(CHANCE, layers=(0,), drop=0)
    tables = made(tmp_path, guessing)
    component, circuit, *_ = all_figures(tables, {"guessing": "Guessing"})
    assert "no pair of posts qualifies" in component.texts[0].get_text()
    assert "there are no circuits" in circuit.texts[0].get_text()


def test_a_model_without_rows_is_named(tables: Tables) -> None:
    with pytest.raises(StudyError, match="no rows of model 'large'; it has first, other"):
        circuit_frame(tables["circuit"], {"large": "Large"}, THRESHOLD)


@pytest.mark.parametrize("models", [MODELS, {"first": "Demo"}], ids=["two", "one"])
def test_nothing_is_cut_off_and_no_text_is_below_seven_points(
    tables: Tables, models: dict[str, str]
) -> None:
    check_pages(all_figures(tables, models))


def test_the_program_draws_all_figures(tables: Tables, tmp_path: Path) -> None:
    settings = {"models": MODELS, "sae": SAE, "threshold": THRESHOLD}
    given = {f"robustness_{name}": table for name, table in tables.items()}
    names = ("circuit_ablation", "knockout", "cues", "spelling_variants")
    figures = [f"robustness/{name}" for name in names]
    check_program(["first/component_effects", *figures], settings, given, tmp_path)
    drawn = (tmp_path / "figures/robustness/knockout.svg").read_text(encoding="utf-8")
    assert "one run a model: differences may be the run's" in drawn
