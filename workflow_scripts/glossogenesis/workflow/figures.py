"""All figures of a study by name: the tables that each is drawn from, and how.

A function here is given the settings of its part of the study and those tables, and returns the
figure and the numbers in it. A figure of one model is given that model's rows, and in `label` of
the settings what figures call the model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from glossogenesis.concepts.figures import (
    plot_differences,
    plot_outcomes,
    plot_patched_accuracy,
    plot_start_layers,
    plot_unpatched_accuracy,
)
from glossogenesis.concepts.frames import (
    Languages,
    difference_frame,
    outcome_frame,
    patched_frame,
    start_layer_frame,
    unpatched_frame,
)
from glossogenesis.features.figures import (
    plot_bilingual_features,
    plot_feature_heatmap,
    plot_feature_languages,
    plot_model_sizes,
    plot_monosemanticity,
    plot_sae_quality,
    quality_frame,
)
from glossogenesis.features.frames import (
    bilingual_frame,
    heat_frame,
    monosemanticity_frame,
    rows_of_sae,
    share_frame,
    size_frame,
)
from glossogenesis.features.tracking_figure import event_frame, origin_frame, plot_feature_tracking
from glossogenesis.figures.panels import add_to_heading
from glossogenesis.injection.figure import injection_frame, plot_injection
from glossogenesis.robustness.figures.circuits import (
    circuit_frame,
    component_frame,
    plot_circuit_ablation,
    plot_component_effects,
)
from glossogenesis.robustness.figures.features import (
    cue_frame,
    knockout_frame,
    plot_cues,
    plot_knockout,
    plot_spelling_variants,
    variant_frame,
)
from glossogenesis.study.setups import EVERY_MODEL, filled_share

Settings = Mapping[str, Any]
Drawn = tuple[Figure, pl.DataFrame]
Draw = Callable[..., Drawn]


@dataclass(frozen=True)
class StudyFigure:
    """What one figure is drawn from, and how."""

    tables: tuple[str, ...]
    """Names of tables, such as `concepts_accuracy`."""
    draw: Draw
    of_one_model: bool


NAMED = 3
"""Checkpoints that a heading names; of more it says the number."""

FIGURES: dict[str, StudyFigure] = {}


def draw_figure(
    name: str,
    model: str,
    settings: Settings,
    tables: Mapping[str, pl.DataFrame],
    left_out: Mapping[str, Collection[str]] | None = None,
) -> Drawn:
    """Draw a figure of all `tables` of its part of the study; `model` where it is of one.

    `left_out` has what each table does without, as `model/checkpoint` or a setup below it. A figure
    is blank but for its heading where nothing is left.
    """
    figure = FIGURES[name]
    given = [_over_runs(tables[table]) for table in figure.tables]
    if figure.of_one_model:
        given = [table.filter(model=model) for table in given]
        settings = {**settings, "label": settings["models"][model]}
    missing = _left_out(figure, model, left_out or {})
    if missing and given[0].is_empty():
        drawn, data = Figure(), given[0]
    else:
        drawn, data = figure.draw(settings, *given)
    _say_runs(drawn, given)
    if missing:
        named = ", ".join(missing) if len(missing) <= NAMED else f"{len(missing)} checkpoints"
        add_to_heading(drawn, f"left out, as not finite: {named}")
    return drawn, data


def _figure(*tables: str, of_one_model: bool = True) -> Callable[[Draw], Draw]:
    """Register a function as the figure of its name."""

    def register(draw: Draw) -> Draw:
        FIGURES[draw.__name__] = StudyFigure(tables, draw, of_one_model)
        return draw

    return register


@_figure("concepts_pooled")
def unpatched_accuracy(settings: Settings, pooled: pl.DataFrame) -> Drawn:
    """Accuracy of unpatched translation prompts over checkpoints, by output language."""
    languages = _languages(settings)
    data = unpatched_frame(pooled, languages)
    return plot_unpatched_accuracy(data, languages), data


@_figure("concepts_accuracy")
def patched_accuracy(settings: Settings, accuracy: pl.DataFrame) -> Drawn:
    """Accuracy of patched translation prompts over checkpoints, a panel a target pair."""
    data = patched_frame(accuracy, settings["start_layer"], _pairs(settings))
    return plot_patched_accuracy(data, settings["pivot"]), data


@_figure("concepts_pooled")
def start_layers(settings: Settings, pooled: pl.DataFrame) -> Drawn:
    """Accuracy of patched translation prompts over the start layer, by checkpoint."""
    data = start_layer_frame(pooled)
    return plot_start_layers(data, settings["pivot"]), data


@_figure("concepts_comparisons")
def concepts_differences(settings: Settings, comparisons: pl.DataFrame) -> Drawn:
    """Differences of settings and of checkpoints, with intervals, and which survive correction."""
    data = difference_frame(comparisons, settings["start_layer"], _pairs(settings))
    return plot_differences(data, settings["pivot"]), data


@_figure("concepts_pooled")
def outcomes(settings: Settings, pooled: pl.DataFrame) -> Drawn:
    """What answers were over checkpoints: correct, copied, kept, in another language, or other."""
    patched = pooled["start_layer"].is_not_null().any()
    data = outcome_frame(pooled, settings["start_layer"] if patched else None)
    return plot_outcomes(data, settings["pivot"]), data


@_figure("features_languages", "features_stages")
def feature_languages(settings: Settings, languages: pl.DataFrame, stages: pl.DataFrame) -> Drawn:
    """Share of features of each language, and of bilingual ones, over training, by layer."""
    codes, sae = settings["languages"], settings["sae"]
    data = share_frame(rows_of_sae(languages, sae), codes)
    return plot_feature_languages(data, codes, rows_of_sae(stages, sae), settings["label"]), data


@_figure("features_languages")
def bilingual_features(settings: Settings, languages: pl.DataFrame) -> Drawn:
    """Share of bilingual features over training by third of the depth, and over layers."""
    data = bilingual_frame(rows_of_sae(languages, settings["sae"]))
    return plot_bilingual_features(data, settings["label"]), data


@_figure("features_monosemanticity")
def monosemanticity(settings: Settings, means: pl.DataFrame) -> Drawn:
    """Mean monosemanticity of features over training by language, a panel a layer."""
    codes = settings["languages"]
    data = monosemanticity_frame(rows_of_sae(means, settings["sae"]), codes)
    return plot_monosemanticity(data, codes, settings["label"]), data


@_figure("features_languages", "features_monosemanticity", "features_grid")
def feature_heatmap(
    settings: Settings, languages: pl.DataFrame, means: pl.DataFrame, grid: pl.DataFrame
) -> Drawn:
    """Bilingual share and monosemanticity of features as heat maps of layers and checkpoints."""
    sae = settings["sae"]
    data = heat_frame(rows_of_sae(languages, sae), rows_of_sae(means, sae))
    filled = filled_share(grid, grid["model"][0])
    return plot_feature_heatmap(data, f"{settings['label']}: {filled}"), data


@_figure("features_quality")
def sae_quality(settings: Settings, quality: pl.DataFrame) -> Drawn:
    """How good the sparse autoencoders are over training, one line per layer."""
    data = quality_frame(rows_of_sae(quality, settings["sae"]))
    return plot_sae_quality(data, settings["label"]), data


@_figure("features_tracking")
def feature_tracking(settings: Settings, tracking: pl.DataFrame) -> Drawn:
    """Features kept, born and died over training, and what bilingual features were before."""
    codes = settings["languages"]
    # A model with a single checkpoint has no rows.
    rows = tracking.filter(sae=settings["sae"])
    events, origins = event_frame(rows), origin_frame(rows, codes)
    figure = plot_feature_tracking(events, origins, codes, settings["label"])
    return figure, pl.concat([events, origins])


@_figure("features_injection")
def injection(settings: Settings, differences: pl.DataFrame) -> Drawn:
    """What injected features change at earlier checkpoints, with controls."""
    data = injection_frame(differences, settings["languages"])
    return plot_injection(data, settings["label"]), data


@_figure("features_languages", "features_monosemanticity", "features_grid", of_one_model=False)
def model_sizes(
    settings: Settings, languages: pl.DataFrame, means: pl.DataFrame, grid: pl.DataFrame
) -> Drawn:
    """Bilingual share and monosemanticity of features over training, one line per model."""
    models, sae = settings["models"], settings["sae"]
    data = size_frame(rows_of_sae(languages, sae), rows_of_sae(means, sae), list(models))
    return plot_model_sizes(data, models, filled_share(grid, EVERY_MODEL)), data


@_figure("robustness_circuit")
def component_effects(settings: Settings, circuit: pl.DataFrame) -> Drawn:
    """Effect of every component of one classifier as a heat map, with intervals."""
    data = component_frame(circuit, settings["threshold"])
    return plot_component_effects(data, settings["label"]), data


@_figure("robustness_circuit", of_one_model=False)
def circuit_ablation(settings: Settings, circuit: pl.DataFrame) -> Drawn:
    """How well classifiers work with their circuits alone and without them, with controls."""
    data = circuit_frame(circuit, settings["models"], settings["threshold"])
    return plot_circuit_ablation(data, settings["models"]), data


@_figure("robustness_knockout", "robustness_features", of_one_model=False)
def knockout(settings: Settings, changes: pl.DataFrame, features: pl.DataFrame) -> Drawn:
    """What recall of each label loses without its top features, with controls."""
    data = knockout_frame(changes, features, settings["models"], settings["sae"])
    return plot_knockout(data, settings["models"]), data


@_figure("robustness_cues", "robustness_features", "robustness_knockout", of_one_model=False)
def cues(
    settings: Settings, found: pl.DataFrame, features: pl.DataFrame, changes: pl.DataFrame
) -> Drawn:
    """How many tokens and surface forms the top features of each label rest on."""
    data = cue_frame(found, features, changes, settings["models"], settings["sae"])
    return plot_cues(data, settings["models"]), data


@_figure("robustness_variants", "robustness_features", of_one_model=False)
def spelling_variants(settings: Settings, variants: pl.DataFrame, features: pl.DataFrame) -> Drawn:
    """How far features outlive another spelling of a concept, with chance."""
    data = variant_frame(variants, features, settings["models"], settings["sae"])
    return plot_spelling_variants(data, settings["models"]), data


def _over_runs(table: pl.DataFrame) -> pl.DataFrame:
    """Rows over all runs of a model, of a table that has those of each run beside them."""
    return table.filter(pl.col("seed").is_null()) if "seed" in table.columns else table


def _say_runs(figure: Figure, tables: Sequence[pl.DataFrame]) -> None:
    """Say in the heading how many runs of each model the points are over."""
    of_runs = [table["runs"].drop_nulls() for table in tables if "runs" in table.columns]
    runs = [most for column in of_runs for most in column.to_list()]
    if runs:
        most = max(runs)
        note = "one run a model: differences may be the run's"
        add_to_heading(figure, note if most == 1 else f"means over {most} runs a model")


def _left_out(
    figure: StudyFigure, model: str, left_out: Mapping[str, Collection[str]]
) -> list[str]:
    """Checkpoints that lack something in a figure: names, of figures of all models with theirs."""
    setups = [what.split("/") for table in figure.tables for what in left_out.get(table, ())]
    if figure.of_one_model:
        return list(dict.fromkeys(name for of, name, *_ in setups if of == model))
    return list(dict.fromkeys(f"{of} {name}" for of, name, *_ in setups))


def _languages(settings: Settings) -> Languages:
    """The languages of a study, of `languages` (code: {group, seen}) and `pivot`."""
    languages = settings["languages"]
    return Languages(
        groups={code: facts["group"] for code, facts in languages.items()},
        unseen=frozenset(code for code, facts in languages.items() if not facts["seen"]),
        pivot=settings["pivot"],
    )


def _pairs(settings: Settings) -> list[tuple[str, str]]:
    """The target pairs of a study, in its order."""
    return [(given, asked) for given, asked in settings["target_pairs"]]
