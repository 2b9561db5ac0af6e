"""Tables of the classifiers: how well they classify, and without the features of a label.

Chance is the accuracy of always naming the most frequent label of the held-out posts. Rows without
a model are facts of the posts.

Recall, accuracy and macro F1 over the posts of all labels, and the share of other labels' posts
that are given this one, are shares; everything about their change is in points, after minus before,
so that a drop is negative. Rows of label `mean` are over labels: their interval resamples labels,
their p is that of flipping signs over labels or, over several runs, that of t, and q corrects it
for the layers, autoencoders and models of the table. `net` is the drop beyond that of features that
fire as often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.knockout.sets import KNOCKOUT_SCHEMA
from glossogenesis.robustness.knockout.summary import cross_fitted, label_drops, layer_drops
from glossogenesis.robustness.scores import chance_of, f1_counts, macro_f1_of, scores_of
from glossogenesis.robustness.tables.inputs import ComparedModel, Results, frame_of, table_schema
from glossogenesis.statistics.intervals import Bootstrap, wilson_interval
from glossogenesis.statistics.resampling import (
    BOOTSTRAP,
    LEFT_OUT,
    NEWCOMBE,
    OVER_DRAWS,
    WILSON,
    Floats,
    interval_ends,
    resampled_counts,
)

BASELINE = "tf-idf"
"""The model of the baseline's rows."""

CLASSIFICATION_SCHEMA = table_schema(
    {
        "measure": pl.String,
        "label": pl.String,
    },
    {
        "note": pl.String,
    },
)
PREDICTIONS = {"post": pl.Int32, "number": pl.Int32, "label": pl.String, "predicted": pl.String}
POSTS_FACTS = {
    "posts_read": "posts_read",
    "without_label": "without_label",
    "without_text": "without_text",
    "duplicates_removed": "duplicates_removed",
    "repeated_removed": "repeated_removed",
    "not_drawn": "not_drawn",
    "empty_bodies": "empty_bodies",
    "train": "train_posts",
    "held_out": "held_out_posts",
    "labels": "labels",
}
"""Facts of the posts, and what they are called here."""

MEAN = "mean"
"""The label of rows over all labels."""


class _Names(NamedTuple):
    level: str
    change: str


NAMES = {
    "recall": _Names("recall", "delta"),
    **{name: _Names(name, f"{name}_delta") for name in ("accuracy", "macro_f1", "false_positives")},
}
"""What the table calls a measure, with `_before` or `_after`, and its change."""

KNOCKOUT_TABLE_SCHEMA = table_schema(
    {
        "layer": pl.Int32,
        "sae": pl.String,
        "label": pl.String,
        "condition": pl.String,
        "measure": pl.String,
    },  # n is the number of posts, or of labels in rows of all
    {
        "draws": pl.Int64,
        "features": pl.Float64,
        "best": pl.Boolean,
        "p": pl.Float64,
        "q": pl.Float64,
        "note": pl.String,
    },
)


def read_baseline(results: Results) -> pl.DataFrame:
    """Predictions of the baseline; StudyError where the file is missing or damaged."""
    return results.table("classifiers/baseline/predictions.parquet", PREDICTIONS)


def read_predictions(results: Results, model: ComparedModel) -> pl.DataFrame:
    """Predictions of one run of a model.

    Raises:
        StudyError: a file is missing or damaged, or does not have the posts of the baseline.

    """
    baseline = read_baseline(results)
    name = "classifiers" / model.folder / "predictions.parquet"
    found = results.table(name, PREDICTIONS, model.model)
    posts = ("post", "number", "label")
    if not found.select(posts).equals(baseline.select(posts)):
        raise StudyError(
            f"{results.folder / name}: not the posts of the baseline's predictions; remove "
            "the outdated one and run the workflow again"
        )
    return found


def classification_table(
    results: Results, models: Sequence[ComparedModel], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of the posts, of the baseline, and of every classifier; `CLASSIFICATION_SCHEMA`."""
    rows = _posts_rows(results)
    rows += [{"model": BASELINE} | row for row in _rows(read_baseline(results), bootstrap)]
    for model in models:
        predictions = read_predictions(results, model)
        rows += [model.facts | row for row in _rows(predictions, bootstrap)]
    return frame_of(rows, CLASSIFICATION_SCHEMA)


def beats_chance(predictions: pl.DataFrame) -> bool:
    """Whether the lower end of the accuracy's interval is above chance."""
    low, _ = wilson_interval(right_answers(predictions).sum(), predictions.height)
    return bool(low > chance_of(predictions["label"].to_list()))


def right_answers(predictions: pl.DataFrame) -> NDArray[np.bool_]:
    """Whether each post is classified correctly: [post]."""
    return (predictions["label"] == predictions["predicted"]).to_numpy()


def label_counts(predictions: pl.DataFrame, labels: Sequence[str]) -> Floats:
    """`f1_counts` of predictions, [post, 2 x label]; `labels` are all that occur."""
    places = {label: place for place, label in enumerate(labels)}
    true, predicted = (
        [places[name] for name in predictions[column]] for column in ("label", "predicted")
    )
    return f1_counts(true, predicted, len(labels))


def labels_of(*predictions: pl.DataFrame) -> list[str]:
    """All labels that posts have or were given, sorted, so that equal runs are equal."""
    return sorted({name for part in predictions for name in (*part["label"], *part["predicted"])})


def _rows(predictions: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    n = predictions.height
    correct = right_answers(predictions)
    beats = beats_chance(predictions)
    scores = scores_of(predictions["label"].to_list(), predictions["predicted"].to_list())
    times = resampled_counts(np.ones(n), bootstrap)
    counts = label_counts(predictions, labels_of(predictions))
    low, high = interval_ends(macro_f1_of(times @ counts), bootstrap, n)
    rows = [
        {"measure": "accuracy", **_share(correct)},
        {"measure": "macro_f1", "value": scores.macro_f1, "low": low, "high": high, "n": n}
        | {"interval": BOOTSTRAP.format("posts")},
        {"measure": "chance", "value": chance_of(predictions["label"].to_list()), "n": n},
        {"measure": "beats_chance", "value": float(beats), "n": n}
        | {"note": None if beats else "accuracy is not above chance: nothing below means much"},
    ]
    for label in sorted(set(predictions["label"])):
        of_label = correct[(predictions["label"] == label).to_numpy()]
        rows.append({"measure": "recall", "label": label, **_share(of_label)})
    return rows


def _posts_rows(results: Results) -> list[dict[str, Any]]:
    facts = results.facts("posts/posts.parquet", POSTS_FACTS)
    return [{"measure": name, "value": facts[fact]} for fact, name in POSTS_FACTS.items()]


def _share(correct: NDArray[np.bool_]) -> dict[str, Any]:
    low, high = wilson_interval(correct.sum(), correct.size)
    ends = {"low": float(low), "high": float(high), "interval": WILSON}
    return {"value": float(correct.mean()), "n": correct.size} | ends


def read_drops(results: Results, model: ComparedModel, sae: str) -> pl.DataFrame:
    """What every label loses under every condition, at every layer of one model."""
    name = "knockout" / model.folder / f"{sae}.parquet"
    return label_drops(results.table(name, KNOCKOUT_SCHEMA, model.model), results.folder / name)


def knockout_table(
    results: Results, models: Sequence[ComparedModel], saes: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of every layer and label, then of all labels; `KNOCKOUT_TABLE_SCHEMA`."""
    rows = []
    for model in models:
        for sae in saes:
            drops = read_drops(results, model, sae)
            facts = model.facts | {"sae": sae}
            for part in (drops, cross_fitted(drops)):
                for row in part.iter_rows(named=True):
                    cells = facts | {"layer": row["layer"]}
                    rows += [cells | found for found in _label_rows(row)]
                for row in layer_drops(part, bootstrap=bootstrap).iter_rows(named=True):
                    rows += [facts | found for found in _mean_rows(row)]
    return frame_of(rows, KNOCKOUT_TABLE_SCHEMA)


def with_best_layers(table: pl.DataFrame) -> pl.DataFrame:
    """Mark in `best` the layer of every model, run and autoencoder where the mean drop is largest.

    It says where to look. What is reported of a best layer are rows without a layer: of each label
    at the layer that other labels choose.
    """
    keys = ["model", "seed", "sae"]
    means = table.filter(
        pl.col("layer").is_not_null(), label=MEAN, condition="top", measure="delta"
    )
    least = means.sort("value", "layer").unique(keys, keep="first", maintain_order=True)
    known = least.select(*keys, best_layer="layer")
    return (
        table.join(known, on=keys, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(best=pl.col("layer") == pl.col("best_layer"))
        .drop("best_layer")
    )


def _label_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A measure before and after, and its change, of one label and condition."""
    cells = {name: row[name] for name in ("label", "condition", "n", "draws", "features")}
    is_control = row["draws"] is not None
    change: tuple[Any, Any, str | None] = (row["minimum"], row["maximum"], OVER_DRAWS)
    if not is_control:
        interval = BOOTSTRAP.format("posts") if row["measure"] == "macro_f1" else NEWCOMBE
        change = (row["low"], row["high"], interval if row["low"] is not None else None)
    if row["measure"] == "logit":
        return [cells | {"measure": "logit_change", "value": row["delta"], **_ends(*change)}]
    measure = NAMES[row["measure"]]
    found = [{"measure": measure.change, "value": row["delta"], **_ends(*change)}]
    if row["measure"] == "recall":
        found.append({"measure": "delta_relative", "value": row["relative"]})
    if row["condition"] != "net":
        after = _after(row) if is_control else _knockout_share(row, "after")
        found.insert(0, {"measure": f"{measure.level}_after", "value": row["after"], **after})
    if row["condition"] == "top":
        before = {"measure": f"{measure.level}_before", "value": row["before"]}
        nothing = {"condition": "none", "features": 0.0}
        found.insert(0, before | _knockout_share(row, "before") | nothing)
    return [cells | part for part in found]


def _mean_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A change over all labels of a layer, and its range with one label left out."""
    cells = {name: row[name] for name in ("layer", "condition", "draws")}
    cells |= {"label": MEAN, "n": row["labels"], "value": row["delta"]}
    interval = BOOTSTRAP.format("labels") if row["draws"] is None else OVER_DRAWS
    change = NAMES[row["measure"]].change
    found = [cells | {"measure": change, **_ends(row["low"], row["high"], interval), "p": row["p"]}]
    if row["draws"] is None:
        note = f"low without {row['lowest_without']}, high without {row['highest_without']}"
        ends = _ends(row["lowest"], row["highest"], LEFT_OUT)
        left_out = {"measure": f"{change}_left_out", **ends}
        found.append(cells | left_out | {"note": note if row["lowest_without"] else None})
    return found


def _knockout_share(row: dict[str, Any], when: str) -> dict[str, Any]:
    """The interval of a share before or after; macro F1 is none."""
    if row[when] is None or not row["n"] or row["measure"] == "macro_f1":
        return {}
    low, high = wilson_interval(round(row[when] * row["n"]), row["n"])
    return _ends(float(low), float(high), WILSON)


def _after(row: dict[str, Any]) -> dict[str, Any]:
    """Lowest and highest value over the draws of a control, from those of its change."""
    if row["minimum"] is None:
        return {}
    ends = np.array([row["minimum"], row["maximum"]]) / 100 + row["before"]
    return _ends(float(ends[0]), float(ends[1]), OVER_DRAWS)


def _ends(low: float | None, high: float | None, interval: str | None) -> dict[str, Any]:
    return {"low": low, "high": high, "interval": interval}
