"""Figures of knockouts, cues and spellings, and the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from glossogenesis.exceptions import StudyError
from glossogenesis.figures.panels import draw_heading, label_outer, legend_below
from glossogenesis.figures.style import (
    FAINT,
    INK,
    LINE_STYLES,
    PAGE_WIDTH,
    Look,
    new_figure,
    paper_style,
)
from glossogenesis.robustness.figures.frames import (
    MEAN,
    best_layers,
    counted,
    draw_whiskers,
    equal_layer,
    evenly,
    layer_with_l0,
    lighter,
    model_looks,
    of_models,
    point,
    readable,
    with_l0,
)

CONDITIONS = ("top", "random", "frequency", "other")
MEANS = {
    "delta": MEAN,
    "false_positives_delta": "mean: false positives",
    "accuracy_delta": "mean: accuracy",
    "macro_f1_delta": "mean: macro F1",
}
"""Rows below those of labels: means over labels of changes, by the measure of the table."""
RULES = {"best": "the layer that other labels choose", "equal": "the same layer"}
MOST_LABELS = 22
"""Labels that have a row; where there are more, they are taken evenly in order of their change."""

_NAMES = {
    "top": "the label's top features",
    "random": "control: random features",
    "frequency": "control: features that fire as often",
    "other": "control: top features of another label",
}
_MARKERS = {"random": "x", "frequency": "^", "other": "s"}
_ASIDE = {"other": 0.27, "frequency": 0.0, "random": -0.27, "top": 0.0}
"""How far below the middle of its row a condition is drawn; the last is on top."""
_ROW = 0.115
"""Inches of a row of points."""

PANELS = {
    "surface": ("top_surface_share", "unique_surfaces"),
    "token": ("top_token_share", "unique_tokens"),
}
"""Share of the most frequent one (right) and number of different ones (up) in each panel."""

_TITLES = {"surface": "surface forms", "token": "token ids (of each model's own tokenizer)"}
_AXES = {
    "top_surface_share": "share of the most frequent surface form",
    "unique_surfaces": "different surface forms",
    "top_token_share": "share of the most frequent token",
    "unique_tokens": "different tokens",
}

ALL = "all"
"""The kinds of rows over all pairs of spellings."""

MOST_LAYERS = 6
ARMS = {"sentence": "a sentence of its own", "carrier": "one sentence for all"}
CONTROLS = {"chance": "_", "unrelated": "+"}
"""Columns of controls, and their markers."""

_COLUMNS = 3
_COLUMNS_OF_FRAME = (
    "layer", "model", "l0", "arm", "k", "n", "pairs", "chance", "unrelated", "value", "low", "high",
)  # fmt: skip
_FADED = 0.5


def knockout_frame(
    knockout: pl.DataFrame, features: pl.DataFrame, models: Mapping[str, str], sae: str
) -> pl.DataFrame:
    """Change of recall of every label and condition, at best layers and at an equal one.

    `knockout` and `features` are the tables `robustness_knockout` and `robustness_features`.
    Rows of `best` have no layer: each label is shown at the layer that other labels choose. Labels
    are in the order of the first model's change there, the greatest drop first; then come the means
    over labels of every measure (`MEANS`).

    Columns: rule (best, equal), model, layer, l0, label, shown (its name in the figure), condition,
    draws, features, n, value, low, high (points), interval.
    """
    rows = of_models(knockout, models, sae=sae)
    is_mean = pl.col("label") == MEAN
    of_means = is_mean & pl.col("measure").is_in(list(MEANS))
    deltas = rows.filter(
        pl.col("condition").is_in(CONDITIONS), of_means | (pl.col("measure") == "delta")
    ).with_columns(label=pl.when(is_mean).then(pl.col("measure").replace(MEANS)).otherwise("label"))
    best = best_layers(rows, models)
    if deltas.is_empty() or not best:
        raise StudyError(
            "robustness_knockout: no label has held-out posts and features to remove; nothing can "
            "be drawn"
        )
    equal = equal_layer(rows, list(models))
    chosen: dict[str, Mapping[str, int | None]] = {"best": dict.fromkeys(best)}
    chosen["equal"] = {} if equal is None else dict.fromkeys(models, equal)
    parts = [
        deltas.filter(pl.col("layer").eq_missing(layer), model=model).with_columns(
            rule=pl.lit(rule)
        )
        for rule, layers in chosen.items()
        for model, layer in layers.items()
    ]
    frame = with_l0(pl.concat(parts), features, sae)
    labels = _ordered(frame, next(iter(best)))
    places = {label: place for place, label in enumerate(labels)}
    ranks = {name: place for place, name in enumerate(CONDITIONS)}
    return (
        frame.with_columns(shown=pl.col("label").replace_strict(readable(labels)))
        .sort(
            pl.col("rule").replace_strict({rule: place for place, rule in enumerate(RULES)}),
            pl.col("model").replace_strict({model: place for place, model in enumerate(models)}),
            pl.col("label").replace_strict(places),
            pl.col("condition").replace_strict(ranks),
        )
        .select(
            *("rule", "model", "layer", "l0", "label", "shown", "condition", "draws", "features"),
            *("n", "value", "low", "high", "interval"),
        )
    )


def plot_knockout(data: pl.DataFrame, models: Mapping[str, str]) -> Figure:
    """Change of recall in points, one row per label: at best layers left, at an equal one right.

    `data` is a `knockout_frame`. Whiskers of the top features are intervals, those of controls the
    range of their draws.
    """
    labels = _shown_labels(data)
    rules = [rule for rule in RULES if rule in set(data["rule"])]
    looks = model_looks(models)
    with paper_style():
        height = 1.1 + _ROW * len(labels) * (len(models) + 0.6)
        figure = new_figure(PAGE_WIDTH, height)
        panels = figure.subplots(1, len(rules), sharex=True, sharey=True, squeeze=False)[0]
        for axes, rule in zip(panels, rules, strict=True):
            rows = data.filter(rule=rule)
            axes.set_title(f"{RULES[rule]}\n{_layers(rows, models)}")
            _draw_rows(axes, rows, labels, looks)
            axes.set_xlabel("change (points)")
        names = dict(data.select("label", "shown").unique().rows())
        shown = ["mean: recall" if label == MEAN else names[label] for label in labels]
        panels[0].set_yticks(range(len(labels)), shown)
        panels[0].set_ylim(len(labels) - 0.4, -0.6)
        handles = [point(label, looks[model]) for model, label in models.items()]
        handles += [
            point(_NAMES[name], Look(INK, _MARKERS[name], filled=False), faint=True)
            for name in CONDITIONS[1:]
        ]
        legend_below(figure, handles)
        of_labels = data.filter(~pl.col("label").is_in(list(MEANS.values())))
        number, posts = of_labels["label"].n_unique(), counted(of_labels)
        draw_heading(
            figure,
            f"Recall without a label's top features: {number} labels, {posts} held-out posts each",
        )
    return figure


def _draw_rows(
    axes: Axes, rows: pl.DataFrame, labels: Sequence[str], looks: Mapping[str, Look]
) -> None:
    """A line of points a label and model, controls behind in the same colour."""
    axes.axvline(0, color=INK, linewidth=0.6, zorder=0.5)
    places = {label: place for place, label in enumerate(labels)}
    if MEAN in places:
        axes.axhline(places[MEAN] - 0.5, color=FAINT, linewidth=0.6)
    height = 0.76 / len(looks)
    known = rows.filter(pl.col("label").is_in(list(labels)))
    for number, (model, look) in enumerate(looks.items()):
        shift = (number - (len(looks) - 1) / 2) * height
        for condition, aside in _ASIDE.items():
            part = known.filter(model=model, condition=condition)
            where = [places[label] + shift + aside * height for label in part["label"]]
            drawn = look if condition == "top" else lighter(look, _MARKERS[condition])
            draw_whiskers(axes, where, part, drawn, faint=condition != "top", upright=False)
    axes.grid(axis="y", color=FAINT, linewidth=0.3, alpha=0.5)


def _ordered(frame: pl.DataFrame, model: str) -> list[str]:
    """Labels by the change in one model at its best layer, then those that it lacks; means."""
    of_best = frame.filter(rule="best", model=model, condition="top").sort("value", "label")
    known = of_best["label"].to_list()
    lacking = sorted(set(frame["label"]) - set(known))
    means = [label for label in MEANS.values() if label in known]
    return [label for label in (*known, *lacking) if label not in means] + means


def _shown_labels(data: pl.DataFrame) -> list[str]:
    """At most `MOST_LABELS` labels, evenly taken in their order, and the means."""
    labels = data["label"].unique(maintain_order=True).to_list()
    means = [label for label in MEANS.values() if label in labels]
    return [*evenly([label for label in labels if label not in means], MOST_LABELS), *means]


def _layers(rows: pl.DataFrame, models: Mapping[str, str]) -> str:
    """The layer of every model, with its L0."""
    found = {row[0]: row[1:] for row in rows.select("model", "layer", "l0").unique().rows()}
    return "\n".join(
        f"{label}: {layer_with_l0(*found[model])}"
        for model, label in models.items()
        if model in found and found[model][0] is not None
    )


def cue_frame(
    cues: pl.DataFrame,
    features: pl.DataFrame,
    knockout: pl.DataFrame,
    models: Mapping[str, str],
    sae: str,
) -> pl.DataFrame:
    """Cues of every label, and of all, at each model's best layer.

    The arguments are the tables `robustness_cues`, `robustness_features` and
    `robustness_knockout`; the last says which layer is the best. A model without one is shown at
    its deepest layer.

    Columns: model, layer, best, l0, label, measure, n (features; labels where the label is `mean`),
    activations, value, low, high, surfaces.
    """
    rows = of_models(cues, models, sae=sae)
    best = best_layers(knockout.filter(sae=sae), models)
    parts = []
    for model in models:
        of_model = rows.filter(model=model)
        layer = best.get(model, of_model["layer"].max())
        parts.append(of_model.filter(layer=layer).with_columns(best=pl.lit(model in best)))
    frame = with_l0(pl.concat(parts), features, sae)
    if frame["value"].is_null().all():
        raise StudyError(
            "robustness_cues: no label has features that fire; train the autoencoders on more posts"
        )
    return frame.select(
        *("model", "layer", "best", "l0", "label", "measure", "n", "activations"),
        *("value", "low", "high", "surfaces"),
    )


def plot_cues(data: pl.DataFrame, models: Mapping[str, str]) -> Figure:
    """A point a label: one cue that is most of all to the right, many cues further up.

    `data` is a `cue_frame`. Whiskers are intervals both ways; large points with a black edge are
    means over labels.
    """
    looks = model_looks(models)
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 3.3)
        panels = figure.subplots(1, len(PANELS), squeeze=False)[0]
        for axes, (name, measures) in zip(panels, PANELS.items(), strict=True):
            axes.set_title(_TITLES[name])
            for model in models:
                _draw_points(axes, data.filter(model=model), measures, looks[model])
            axes.set_xlabel(_AXES[measures[0]])
            axes.set_ylabel(_AXES[measures[1]])
            axes.set_xlim(0, 1.02)
            axes.set_ylim(bottom=0)
        legend_below(figure, _cue_entries(data, models, looks))
        draw_heading(
            figure,
            "Cues of labels: what the strongest activations of a label's top features are on "
            f"({counted(data.filter(pl.col('label') != MEAN))} features a label)",
        )
    return figure


def _draw_points(axes: Axes, rows: pl.DataFrame, measures: tuple[str, str], look: Look) -> None:
    across, up = (rows.filter(measure=measure) for measure in measures)
    both = across.join(up, on="label", suffix="_up", maintain_order="left").fill_null(float("nan"))
    labels = both.filter(pl.col("label") != MEAN)
    for part, opacity, width in (
        (labels, 0.45, 0.7),
        (both.filter(label=MEAN), 1.0, 1.2),
    ):
        x, y = part["value"].to_numpy(), part["value_up"].to_numpy()
        ends: dict[str, Any] = {
            "color": look.colour,
            "linewidth": width,
            "alpha": opacity,
            "zorder": 2,
        }
        axes.hlines(y, part["low"].to_numpy(), part["high"].to_numpy(), **ends)
        axes.vlines(x, part["low_up"].to_numpy(), part["high_up"].to_numpy(), **ends)
    axes.plot(
        labels["value"].to_numpy(),
        labels["value_up"].to_numpy(),
        linestyle="none",
        zorder=3,
        clip_on=False,
        **look.marker_options(),
    )
    mean = both.filter(label=MEAN)
    axes.plot(
        mean["value"].to_numpy(),
        mean["value_up"].to_numpy(),
        linestyle="none",
        zorder=4,
        clip_on=False,
        **look.marker_options() | {"markeredgecolor": INK, "markersize": 6.5},
    )


def _cue_entries(
    data: pl.DataFrame, models: Mapping[str, str], looks: Mapping[str, Look]
) -> list[Line2D]:
    entries = []
    for model, label in models.items():
        row = data.filter(model=model).row(0, named=True)
        number = data.filter(pl.col("label") != MEAN, model=model)["label"].n_unique()
        where = layer_with_l0(row["layer"], row["l0"])
        entries.append(point(f"{label}, {where}, n = {number}", looks[model]))
    mean = point("mean over labels", Look(INK, "o", filled=False))
    mean.set_markersize(6.5)
    return [*entries, mean]


def variant_frame(
    variants: pl.DataFrame, features: pl.DataFrame, models: Mapping[str, str], sae: str
) -> pl.DataFrame:
    """Survival over all pairs of spellings, with its controls, by layer, arm and k.

    `variants` and `features` are the tables `robustness_variants` and `robustness_features`. At
    most `MOST_LAYERS` layers, evenly taken.

    Columns: layer, model, l0, arm, k, n (concepts), pairs, chance, unrelated, value, low, high.
    """
    rows = of_models(variants, models, sae=sae, kinds=ALL)
    if rows.is_empty():
        raise StudyError("robustness_variants: no concept has two spellings; nothing can be drawn")
    layers = evenly(rows["layer"].unique().sort().to_list(), MOST_LAYERS)
    places = {model: place for place, model in enumerate(models)}
    arms = {arm: place for place, arm in enumerate(ARMS)}
    frame = with_l0(rows.filter(pl.col("layer").is_in(layers)), features, sae)
    return frame.sort(
        "layer",
        pl.col("model").replace_strict(places),
        pl.col("arm").replace_strict(arms),
        "k",
    ).select(*_COLUMNS_OF_FRAME)


def plot_spelling_variants(data: pl.DataFrame, models: Mapping[str, str]) -> Figure:
    """Survival over k, a panel a layer, one line per model and arm; controls are faint.

    `data` is a `variant_frame`.
    """
    layers = data["layer"].unique().sort().to_list()
    ks = data["k"].unique().sort().to_list()
    arms = [arm for arm in ARMS if arm in set(data["arm"])]
    series = [(model, arm) for model in models for arm in arms]
    across = min(_COLUMNS, len(layers))
    down = math.ceil(len(layers) / across)
    with paper_style():
        figure = new_figure(PAGE_WIDTH * max(0.5, across / _COLUMNS), 1.8 * down + 0.9)
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for spare in grid.flat[len(layers) :]:
            spare.remove()
        panels = list(grid.flat[: len(layers)])
        for axes, layer in zip(panels, layers, strict=True):
            rows = data.filter(layer=layer)
            axes.set_title(f"layer {layer} ({_l0(rows, models)})")
            for place, (model, arm) in enumerate(series):
                part = rows.filter(model=model, arm=arm)
                shift = 0.07 * (place - (len(series) - 1) / 2)
                x = [ks.index(k) + shift for k in part["k"]]
                look, line = _look(models, model, arm)
                axes.plot(x, part["value"], linestyle=line, color=look.colour, zorder=2)
                draw_whiskers(axes, x, part, look)
                for control, marker in CONTROLS.items():
                    axes.plot(
                        x,
                        part[control],
                        linestyle=line if control == "unrelated" else "",
                        color=look.colour,
                        alpha=_FADED,
                        linewidth=0.7,
                        marker=marker,
                        zorder=1,
                    )
            axes.set_xticks(range(len(ks)), [str(k) for k in ks])
            axes.set_xlim(-0.4, len(ks) - 0.6)
            axes.set_ylim(-0.03, 1.03)
            axes.set_xlabel("strongest features compared (k)")
        label_outer(panels, "survival")
        legend_below(figure, _variant_entries(models, arms))
        draw_heading(
            figure,
            "Survival: share of a spelling's features that another spelling of its concept lacks, "
            f"n = {counted(data)} concepts",
        )
    return figure


def _look(models: Mapping[str, str], model: str, arm: str) -> tuple[Look, Any]:
    """Colour and marker say the model; a filled marker and a solid line, its own sentence."""
    look = model_looks(models)[model]
    own = arm == next(iter(ARMS))
    return Look(look.colour, look.marker, filled=own), LINE_STYLES[0 if own else 1]


def _l0(rows: pl.DataFrame, models: Mapping[str, str]) -> str:
    """L0 of every model that has the layer."""
    found = dict(rows.select("model", "l0").unique().rows())
    shown = [f"{found[model]:.3g}" for model in models if found.get(model) is not None]
    return f"L0 {' and '.join(shown)}"


def _variant_entries(models: Mapping[str, str], arms: list[str]) -> list[Line2D]:
    entries = []
    for model, label in models.items():
        for arm in arms:
            look, line = _look(models, model, arm)
            named = f"{label}: {ARMS[arm]}"
            entries.append(Line2D([], [], linestyle=line, label=named, **look.marker_options()))
    labels = {"chance": "random features", "unrelated": "spellings of different concepts"}
    faint: dict[str, Any] = {"color": "black", "alpha": _FADED, "linewidth": 0.7}
    controls = [
        Line2D([], [], marker=marker, label=labels[control], **faint)
        for control, marker in CONTROLS.items()
    ]
    return [*entries, *controls]
