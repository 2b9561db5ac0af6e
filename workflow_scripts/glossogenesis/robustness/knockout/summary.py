"""What knockouts say: of each label, of each layer, and of one model beside another.

Recalls and the like are shares. Everything about their change is in points, after minus before, so
that a drop is negative. `net` is the change by the label's top features less the mean change by
features that fire as often.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.knockout.sets import (
    ACCURACY,
    FALSE_POSITIVES,
    KNOCKOUT_SCHEMA,
    RECALL,
)
from glossogenesis.statistics.intervals import Bootstrap, cluster_bootstrap, paired_score_interval
from glossogenesis.statistics.tests import sign_flip_p

Floats = NDArray[np.float64]

CONTROLS = ("random", "frequency", "other")
SUMMARISED = ("top", *CONTROLS, "net")
"""The conditions of summaries, in order."""
COMPARED = ("top", "net")
MEASURES = ("recall", "accuracy", "macro_f1", "false_positives", "logit")
"""Of the label's posts, of all posts, of all posts, of posts of other labels that are given this
label; and the change of the label's logit."""
KEYS = ["layer", "label", "condition"]

PolarsType = pl.DataType | type[pl.DataType]

LABEL_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "label": pl.String,
        "condition": pl.String,
        "measure": pl.String,
        "draws": pl.Int32,  # of a control; null elsewhere
        "features": pl.Float64,  # removed, mean over draws; null of `net`
        "n": pl.Int32,  # posts that the measure is a share of
        # Null without held-out posts; means over the draws of a control.
        "before": pl.Float64,  # null of `logit`
        "after": pl.Float64,  # null of `logit` and `net`
        "delta": pl.Float64,
        "low": pl.Float64,  # of `top` alone, over posts
        "high": pl.Float64,
        "minimum": pl.Float64,  # of a control alone, over draws
        "maximum": pl.Float64,
        "relative": pl.Float64,  # delta as a share of what was before; null where that is 0
    }
)

MEAN_OVER_LABELS: dict[str, PolarsType] = {
    "low": pl.Float64,  # over resampled labels; null of a single one
    "high": pl.Float64,
    "p": pl.Float64,  # flipping signs over labels
    # The mean where one label is left out: the least and the greatest, and without which label.
    "lowest": pl.Float64,
    "lowest_without": pl.String,
    "highest": pl.Float64,
    "highest_without": pl.String,
}

LAYER_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "condition": pl.String,
        "measure": pl.String,
        "labels": pl.Int32,  # those with held-out posts
        "without_features": pl.Int32,  # of them, those without a top feature
        "draws": pl.Int32,  # where low and high are the range of draws; null elsewhere
        "delta": pl.Float64,  # mean over labels
        **MEAN_OVER_LABELS,
    }
)

COMPARISON_KEYS: dict[str, PolarsType] = {
    "rule": pl.String,  # best: each model's best layer; equal: the same layer
    "condition": pl.String,
    "layer_first": pl.Int16,
    "layer_other": pl.Int16,
}

COMPARISON_SCHEMA = pl.Schema(
    {
        **COMPARISON_KEYS,
        "labels": pl.Int32,  # that both models have
        "difference": pl.Float64,  # of deltas, other minus first, mean over labels
        **MEAN_OVER_LABELS,
        "sign_flips": pl.Boolean,  # whether leaving out one label turns the sign
    }
)

LABEL_COMPARISON_SCHEMA = pl.Schema(
    {
        **COMPARISON_KEYS,
        "label": pl.String,
        "first": pl.Float64,  # delta
        "other": pl.Float64,
        "difference": pl.Float64,
    }
)


def label_drops(knockout: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Sum up the draws of each condition: `LABEL_SCHEMA` by layer, label, condition and measure.

    What cannot be measured of a label is null; a measure that a condition does not have has no row.
    `knockout` was read from `path`.

    Raises:
        StudyError: the table is not one of knockouts.
    """
    if knockout.schema != KNOCKOUT_SCHEMA:
        raise StudyError(f"{path}: not a table of knockouts; remove the file and rerun")
    rows = knockout.filter(pl.col("condition").is_in(("top", *CONTROLS)))
    found = pl.concat([_summed(part, measure) for measure, part in _measured(rows).items()])
    everything = pl.concat([found, _net(found)], how="diagonal_relaxed")
    relative = pl.when(pl.col("before") > 0).then(pl.col("delta") / (100 * pl.col("before")))
    return (
        everything.with_columns(relative=relative)
        .select(pl.col(name).cast(dtype) for name, dtype in LABEL_SCHEMA.items())
        .sort("layer", "label", _place(MEASURES, "measure"), _place(SUMMARISED, "condition"))
    )


def _measured(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rows of each measure, with n, before, after and delta; of `top` also low and high."""
    everywhere = rows.filter(pl.col("all_n").is_not_null())
    of_others = everywhere.with_columns(n=pl.col("all_n") - pl.col("n"))
    # Without another label's features it is what that label has in its own rows.
    of_all = everywhere.filter(pl.col("condition") != "other").with_columns(n="all_n")
    change = pl.col("macro_f1_after") - pl.col("macro_f1_before")
    return {
        "recall": _of_counts(rows, RECALL),
        "accuracy": _of_counts(of_all, ACCURACY),
        "macro_f1": of_all.with_columns(
            before="macro_f1_before",
            after="macro_f1_after",
            delta=100 * change,
            low=100 * pl.col("macro_f1_low"),
            high=100 * pl.col("macro_f1_high"),
        ),
        "false_positives": _of_counts(of_others, FALSE_POSITIVES),
        "logit": rows.with_columns(
            pl.lit(None, pl.Float64).alias(name) for name in ("before", "after", "low", "high")
        ).with_columns(delta=pl.col("logit_change").cast(pl.Float64)),
    }


def _of_counts(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Shares of `n` posts before and after, and their difference in points with its interval."""
    before, after, lost, gained = columns
    n = pl.when(pl.col("n") > 0).then("n")
    counted = rows.with_columns(
        before=pl.col(before) / n,
        after=pl.col(after) / n,
        delta=100 * (pl.col(after) - pl.col(before)) / n,
    )
    of_top = (pl.col("n") > 0) & (pl.col("condition") == "top")
    once = counted.filter(of_top)
    numbers = (once[name].to_numpy().astype(np.float64) for name in (before, lost, gained, "n"))
    right, losses, gains, posts = numbers
    low, high = paired_score_interval(right - losses, losses, gains, posts - right - gains)
    ends = once.select(*KEYS, low=pl.Series(100 * low), high=pl.Series(100 * high))
    return counted.join(ends, on=KEYS, how="left")


def _summed(rows: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Means over the draws of each condition."""
    is_control = pl.col("condition").first() != "top"
    return rows.group_by(KEYS).agg(
        measure=pl.lit(measure),
        draws=pl.when(is_control).then(pl.len()),
        features=pl.col("features").mean(),
        n=pl.col("n").first(),
        before=pl.col("before").first(),
        after=pl.col("after").mean(),
        delta=pl.col("delta").mean(),
        low=pl.when(~is_control).then(pl.col("low").first()),
        high=pl.when(~is_control).then(pl.col("high").first()),
        minimum=pl.when(is_control).then(pl.col("delta").min()),
        maximum=pl.when(is_control).then(pl.col("delta").max()),
    )


def layer_drops(labels: pl.DataFrame, *, bootstrap: Bootstrap) -> pl.DataFrame:
    """Mean over labels of each layer, condition and measure: rows of `LAYER_SCHEMA`.

    Args:
        labels: as from `label_drops`; layers where no label can be measured have no row.
        bootstrap: resamples and seed of intervals, and of p.
    """
    rows = []
    over_labels = labels.filter(pl.col("measure") != "logit")
    for (layer, condition, measure), group in _groups(over_labels, "layer", "condition", "measure"):
        featureless = labels.filter(
            pl.col("features") == 0,
            pl.col("n") > 0,
            pl.col("layer").eq_missing(layer),
            condition="top",
            measure=measure,
        )
        rows.append(
            {
                "layer": layer,
                "condition": condition,
                "measure": measure,
                "labels": group.height,
                "without_features": featureless.height,
                "delta": group["delta"].mean(),
                **_spread(group, bootstrap),
            }
        )
    return pl.DataFrame(rows, schema=LAYER_SCHEMA).sort(
        "layer", _place(MEASURES, "measure"), _place(SUMMARISED, "condition")
    )


def best_layer(labels: pl.DataFrame) -> int | None:
    """Return the layer at which top features matter most; None where no label can be measured.

    That of the largest mean drop of recall over labels; of equal ones the earliest. `labels` is as
    from `label_drops`.
    """
    means = (
        labels.filter(pl.col("delta").is_not_null(), condition="top", measure="recall")
        .group_by("layer")
        .agg(pl.col("delta").mean())
        .sort("delta", "layer")
    )
    return int(means["layer"][0]) if means.height else None


def cross_fitted(labels: pl.DataFrame) -> pl.DataFrame:
    """Rows of each label at the layer where the top features of *other* labels matter most.

    A layer that is chosen by the drops that it then reports is too good: the largest of several
    means is above what it stands for. So labels are taken alternately in two halves, and each half
    is reported at the best layer of the other. `labels` is as from `label_drops`; so are the rows,
    with null for the layer. None where a half has nothing to choose by.
    """
    known = labels.filter(pl.col("delta").is_not_null(), condition="top", measure="recall")
    names = known["label"].unique().sort()
    halves = (names[::2], names[1::2])
    best = [best_layer(labels.filter(pl.col("label").is_in(half.implode()))) for half in halves]
    if None in best:
        return labels.clear()
    parts = [
        labels.filter(pl.col("label").is_in(half.implode()), layer=layer)
        for half, layer in zip(halves, reversed(best), strict=True)
    ]
    chosen = pl.concat(parts).with_columns(layer=pl.lit(None, pl.Int16))
    return chosen.sort("label", _place(MEASURES, "measure"), _place(SUMMARISED, "condition"))


def compare_models(
    first: pl.DataFrame, other: pl.DataFrame, *, bootstrap: Bootstrap
) -> pl.DataFrame:
    """Mean differences of changes of recall over labels of both models: `COMPARISON_SCHEMA`.

    First at each model's own best layers, as `cross_fitted`, then at every layer that both have.

    Args:
        first: as from `label_drops`.
        other: the same of the other model.
        bootstrap: resamples and seed of intervals, and of p.
    """
    rows = []
    for key, group in _groups(
        compare_labels(first, other), *COMPARISON_KEYS, measured="difference"
    ):
        differences = group["difference"].to_numpy()
        found = _over_labels(differences, group["label"].to_list(), bootstrap)
        mean = float(differences.mean())
        ends = [mean if found[name] is None else found[name] for name in ("lowest", "highest")]
        rows.append(
            {
                **dict(zip(COMPARISON_KEYS, key, strict=True)),
                "labels": group.height,
                "difference": mean,
                **found,
                "sign_flips": bool(min(ends) < 0 < max(ends)),
            }
        )
    return pl.DataFrame(rows, schema=COMPARISON_SCHEMA)


def compare_labels(first: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Differences of changes of recall, label by label: rows of `LABEL_COMPARISON_SCHEMA`.

    In the order of `compare_models`, then by label. Arguments are as from `label_drops`.
    """
    compared = [("best", None, cross_fitted(first), cross_fitted(other))]
    for layer in sorted(set(first["layer"]) & set(other["layer"])):
        compared.append(("equal", layer, first.filter(layer=layer), other.filter(layer=layer)))
    parts = [pl.DataFrame(schema=LABEL_COMPARISON_SCHEMA)]
    for rule, layer, *both in compared:
        for condition in COMPARED:
            sides = [
                labels.filter(condition=condition, measure="recall").select(
                    "label", pl.col("delta").alias(name)
                )
                for labels, name in zip(both, ("first", "other"), strict=True)
            ]
            joined = sides[0].join(sides[1], on="label").drop_nulls().sort("label")
            key = (rule, condition, layer, layer)
            parts.append(
                joined.with_columns(
                    pl.lit(value, dtype).alias(name)
                    for (name, dtype), value in zip(COMPARISON_KEYS.items(), key, strict=True)
                )
                .with_columns(difference=pl.col("other") - pl.col("first"))
                .select(LABEL_COMPARISON_SCHEMA.names())
            )
    return pl.concat(parts)


def _net(found: pl.DataFrame) -> pl.DataFrame:
    """Rows of `net`; those of a label without a top feature, which has no controls, are 0."""
    keys = ["layer", "label", "measure"]
    control = found.filter(condition="frequency").select(*keys, control="delta")
    top = found.filter(condition="top").join(control, on=keys, how="left")
    beyond = pl.when(pl.col("features") == 0).then("delta").otherwise("control")
    return top.select(*keys, "n", "before", delta=pl.col("delta") - beyond, condition=pl.lit("net"))


def _groups(
    rows: pl.DataFrame, *keys: str, measured: str = "delta"
) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Rows with a value, by keys, in their order."""
    yield from rows.drop_nulls(measured).group_by(*keys, maintain_order=True)


def _spread(group: pl.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    """How sure a mean over labels is.

    Random features are drawn once for all labels, so that accuracy without them is one number,
    whose range over draws is reported.
    """
    first = group.row(0, named=True)
    if first["condition"] == "random" and first["measure"] in ("accuracy", "macro_f1"):
        ends = {"low": group["minimum"].min(), "high": group["maximum"].max()}
        return dict.fromkeys(MEAN_OVER_LABELS) | ends | {"draws": first["draws"]}
    return _over_labels(group["delta"].to_numpy(), group["label"].to_list(), bootstrap)


def _over_labels(values: Floats, names: list[str], bootstrap: Bootstrap) -> dict[str, Any]:
    """Interval and p of a mean over labels, and its range with one label left out."""
    estimate = cluster_bootstrap(values, names, bootstrap)
    single = len(values) < 2
    p = sign_flip_p(values, resamples=bootstrap.resamples, seed=bootstrap.seed)
    found: dict[str, Any] = dict.fromkeys(MEAN_OVER_LABELS)
    found |= {"p": p}
    if single:
        return found
    left_out = (values.sum() - values) / (len(values) - 1)
    lowest, highest = int(left_out.argmin()), int(left_out.argmax())
    return found | {
        "low": estimate.low,
        "high": estimate.high,
        "lowest": float(left_out[lowest]),
        "lowest_without": names[lowest],
        "highest": float(left_out[highest]),
        "highest_without": names[highest],
    }


def _place(order: Sequence[str], column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Enum(order))
