"""What knockouts say: of each label, of each layer, and of one model beside another.

Recalls are shares. Everything about their change is in points, after minus before, so that a drop
is negative. `net` is the change by the label's top features less the mean change by features that
fire as often.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.errors import StudyError
from glossogenesis.patching.knockout_rows import KNOCKOUT_SCHEMA
from glossogenesis.patching.knockout_schemas import (
    COMPARISON_KEYS,
    COMPARISON_SCHEMA,
    LABEL_COMPARISON_SCHEMA,
    LABEL_SCHEMA,
    LAYER_SCHEMA,
    MEAN_OVER_LABELS,
)
from glossogenesis.statistics.intervals import Bootstrap, cluster_bootstrap
from glossogenesis.statistics.paired_shares import paired_score_interval
from glossogenesis.statistics.permutation import sign_flip_p

Floats = NDArray[np.float64]

CONTROLS = ("random", "frequency", "other")
SUMMARISED = ("top", *CONTROLS, "net")
"""The conditions of summaries, in order."""
COMPARED = ("top", "net")
_NETTED = ("delta", "logit_change")


def label_drops(knockout: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Sum up the draws of each condition: rows of `LABEL_SCHEMA` by layer, label and condition.

    A label whose recall cannot be measured has null for it. `knockout` was read from `path`.

    Raises:
        StudyError: the table is not one of knockouts.
    """
    if knockout.schema != KNOCKOUT_SCHEMA:
        raise StudyError(f"{path}: not a table of knockouts; remove the file and rerun")
    n = pl.when(pl.col("n") > 0).then("n")
    measured = knockout.with_columns(
        before=pl.col("correct_before") / n,
        after=pl.col("correct_after") / n,
        delta=100 * (pl.col("correct_after") - pl.col("correct_before")) / n,
    )
    rows = measured.filter(pl.col("condition").is_in(("top", *CONTROLS)))
    is_control = pl.col("condition").first() != "top"
    summed = rows.group_by("layer", "label", "condition").agg(
        draws=pl.when(is_control).then(pl.len()),
        features=pl.col("features").mean(),
        n=pl.col("n").first(),
        recall_before=pl.col("before").first(),
        recall_after=pl.col("after").mean(),
        delta=pl.col("delta").mean(),
        minimum=pl.when(is_control).then(pl.col("delta").min()),
        maximum=pl.when(is_control).then(pl.col("delta").max()),
        logit_change=pl.col("logit_change").cast(pl.Float64).mean(),
    )
    ends = _intervals_of_top(rows.filter(pl.col("n") > 0, condition="top"))
    found = summed.join(ends, on=["layer", "label", "condition"], how="left")
    everything = pl.concat([found, _net(found)], how="diagonal_relaxed")
    relative = pl.when(pl.col("recall_before") > 0).then(
        pl.col("delta") / (100 * pl.col("recall_before"))
    )
    return (
        everything.with_columns(relative=relative)
        .select(pl.col(name).cast(dtype) for name, dtype in LABEL_SCHEMA.items())
        .sort("layer", "label", _place_of_condition())
    )


def layer_drops(labels: pl.DataFrame, *, bootstrap: Bootstrap) -> pl.DataFrame:
    """Mean over labels of each layer and condition: rows of `LAYER_SCHEMA`.

    Args:
        labels: as from `label_drops`; layers where no label can be measured have no row.
        bootstrap: resamples and seed of intervals, and of p.
    """
    rows = []
    for (layer, condition), group in _groups(labels, "layer", "condition"):
        featureless = labels.filter(
            pl.col("features") == 0, pl.col("n") > 0, pl.col("layer").eq_missing(layer), condition="top"
        )
        rows.append(
            {
                "layer": layer,
                "condition": condition,
                "labels": group.height,
                "without_features": featureless.height,
                "delta": group["delta"].mean(),
                **_over_labels(group["delta"].to_numpy(), group["label"].to_list(), bootstrap),
            }
        )
    return pl.DataFrame(rows, schema=LAYER_SCHEMA).sort("layer", _place_of_condition())


def best_layer(labels: pl.DataFrame) -> int | None:
    """Return the layer at which top features matter most; None where no label can be measured.

    That of the largest mean drop over labels; of equal ones the earliest. `labels` is as from
    `label_drops`.
    """
    means = (
        labels.filter(pl.col("delta").is_not_null(), condition="top")
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
    names = labels.filter(pl.col("delta").is_not_null(), condition="top")["label"].unique().sort()
    halves = (names[::2], names[1::2])
    best = [best_layer(labels.filter(pl.col("label").is_in(half.implode()))) for half in halves]
    if None in best:
        return labels.clear()
    parts = [
        labels.filter(pl.col("label").is_in(half.implode()), layer=layer)
        for half, layer in zip(halves, reversed(best), strict=True)
    ]
    return pl.concat(parts).with_columns(layer=pl.lit(None, pl.Int16)).sort(
        "label", _place_of_condition()
    )  # fmt: skip


def compare_models(
    first: pl.DataFrame, other: pl.DataFrame, *, bootstrap: Bootstrap
) -> pl.DataFrame:
    """Mean differences of two models over the labels that both have: `COMPARISON_SCHEMA`.

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
    """Differences of two models, label by label: rows of `LABEL_COMPARISON_SCHEMA`.

    In the order of `compare_models`, then by label. Arguments are as from `label_drops`.
    """
    compared = [("best", None, cross_fitted(first), cross_fitted(other))]
    for layer in sorted(set(first["layer"]) & set(other["layer"])):
        compared.append(("equal", layer, first.filter(layer=layer), other.filter(layer=layer)))
    parts = [pl.DataFrame(schema=LABEL_COMPARISON_SCHEMA)]
    for rule, layer, *both in compared:
        for condition in COMPARED:
            sides = [
                labels.filter(condition=condition).select("label", pl.col("delta").alias(name))
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


def _intervals_of_top(rows: pl.DataFrame) -> pl.DataFrame:
    """Ends, in points, of the change by top features of each layer and label."""
    before, lost, gained, n = (
        rows[name].to_numpy().astype(np.float64)
        for name in ("correct_before", "lost", "gained", "n")
    )
    low, high = paired_score_interval(before - lost, lost, gained, n - before - gained)
    return rows.select(
        "layer", "label", "condition", low=pl.Series(100 * low), high=pl.Series(100 * high)
    )


def _net(found: pl.DataFrame) -> pl.DataFrame:
    """Rows of `net`; that of a label without a top feature, which has no controls, is 0."""
    control = found.filter(condition="frequency").select(
        "layer", "label", *(pl.col(name).alias(f"{name}_control") for name in _NETTED)
    )
    top = found.filter(condition="top").join(control, on=["layer", "label"], how="left")
    return top.select(
        "layer",
        "label",
        "n",
        "recall_before",
        *(
            pl.col(name) - pl.when(pl.col("features") == 0).then(name).otherwise(f"{name}_control")
            for name in _NETTED
        ),
        condition=pl.lit("net"),
    )


def _groups(
    rows: pl.DataFrame, *keys: str, measured: str = "delta"
) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Rows with a value, by keys, in their order."""
    yield from rows.drop_nulls(measured).group_by(*keys, maintain_order=True)


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


def _place_of_condition() -> pl.Expr:
    return pl.col("condition").cast(pl.Enum(SUMMARISED))
