"""Figure of what each label, and all of them, lose without its top features, with the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glossogenesis.errors import StudyError
from glossogenesis.figures.feature_panels import draw_heading
from glossogenesis.figures.panels import legend_below
from glossogenesis.figures.style import FAINT, INK, PAGE_WIDTH, Look, new_figure, paper_style
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
    """Change of recall in points, a row a label: at best layers left, at an equal one right.

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
