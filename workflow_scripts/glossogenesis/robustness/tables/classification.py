"""Table of the classifiers: accuracy, macro F1 and recall, beside the baseline and chance.

Chance is the accuracy of always naming the most frequent label of the held-out posts. Rows without
a model are facts of the posts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.errors import StudyError
from glossogenesis.robustness.scores import chance_of, f1_counts, macro_f1_of, scores_of
from glossogenesis.robustness.tables.inputs import ComparedModel, Results, frame_of, table_schema
from glossogenesis.statistics.intervals import Bootstrap, wilson_interval
from glossogenesis.statistics.resampling import (
    BOOTSTRAP,
    WILSON,
    Floats,
    interval_ends,
    resampled_counts,
)

BASELINE = "tf-idf"
"""The model of the baseline's rows."""

CLASSIFICATION_SCHEMA = table_schema(
    {
        "measure": pl.String,  # accuracy, macro_f1, chance, beats_chance, recall; facts of posts
        "label": pl.String,  # of a recall
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
    told, given = (
        [places[name] for name in predictions[column]] for column in ("label", "predicted")
    )
    return f1_counts(told, given, len(labels))


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
