"""How classifiers and their circuits differ between two models.

Both models classify the same posts, which makes accuracies and macro F1 paired. Pairs of the set
`own` differ between models, so their effects are samples drawn apart; pairs of the set `common` are
the same, and paired. Which components make up a circuit depends on the pairs too, and one that only
just reaches the threshold in one model must not count as a difference; so circuits are found anew
in every resample and arrangement. Of ablations only counts are known: the two models' are resampled
apart and tested by the normal approximation, which leaves out that the posts are the same and errs
on the wide side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binom, norm

from glossogenesis.errors import StudyError
from glossogenesis.features.robustness_tables.ablations import outcomes, value_of
from glossogenesis.robustness.circuit import effect_matrices
from glossogenesis.robustness.scores import macro_f1_of
from glossogenesis.robustness.tables.circuit import (
    ALL,
    BOTH,
    SETS,
    circuit_results,
    members_of,
    part_sum,
)
from glossogenesis.robustness.tables.classification import label_counts, labels_of, right_answers
from glossogenesis.robustness.tables.inputs import ComparedModel, Results, shortest_digits
from glossogenesis.statistics.intervals import Bootstrap, paired_difference
from glossogenesis.statistics.resampling import (
    BOOTSTRAP,
    BY_DEALING,
    BY_SWAPS,
    Difference,
    Floats,
    independent_samples,
    interval_ends,
    paired_samples,
    ratios,
    resampled_counts,
)

Row = dict[str, Any]

OTHER_TOKENIZER = "different tokenizers: labels alone are compared"
NO_PAIRS = "no pair of posts qualifies for {}"

PAIRS = {"set": pl.String, "pair": pl.Int32, "clean": pl.Int32, "corrupted": pl.Int32}
_POSTS = BOOTSTRAP.format("posts")
_SHARES = (("early", BOTH), ("middle", BOTH), ("late", BOTH), (ALL, "attention"))
"""Regions and components whose share in the circuit's sum is compared; MLPs have the rest."""


def compare_classifiers(
    first: pl.DataFrame, other: pl.DataFrame, bootstrap: Bootstrap
) -> Iterator[Row]:
    """Accuracy (McNemar's exact test) and macro F1 of two tables of predictions."""
    right = [right_answers(predictions) for predictions in (first, other)]
    accuracy = paired_difference(right[0], right[1], range(first.height), bootstrap)
    gains, losses = (int(np.sum(a & ~b)) for a, b in (right[::-1], right))
    p = min(1.0, float(2 * binom.cdf(min(gains, losses), gains + losses, 0.5)))
    found = Difference(accuracy.value, accuracy.low, accuracy.high, p)
    told = {"interval": _POSTS, "n": first.height}
    values = [float(part.mean()) for part in right]
    yield told | _row("accuracy", values, found) | {"test": "McNemar, exact"}
    labels = labels_of(first, other)
    counts = [label_counts(predictions, labels) for predictions in (first, other)]
    compared = paired_samples(counts[0], counts[1], bootstrap).compare(macro_f1_of, bootstrap)
    yield told | _row("macro_f1", *compared) | {"test": BY_SWAPS.format("post", "post")}


def compare_circuits(
    results: Results,
    first: ComparedModel,
    other: ComparedModel,
    threshold: float,
    bootstrap: Bootstrap,
    *,
    same_tokenizer: bool,
) -> Iterator[Row]:
    """Sums of effects, their distribution, sufficiency and necessity, on both sets of pairs."""
    models = (first, other)
    effects, _, ablations = zip(*(circuit_results(results, model) for model in models), strict=True)
    matrices = [effect_matrices(part) for part in effects]
    for name in SETS:
        empty = [m.model for m, of_set in zip(models, matrices, strict=True) if name not in of_set]
        if name == "common" and not same_tokenizer:
            yield {"measure": "effect_sum", "detail": "common pairs", "note": OTHER_TOKENIZER}
            continue
        if empty:
            note = NO_PAIRS.format(" and ".join(empty))
            yield {"measure": "effect_sum", "detail": f"{name} pairs", "note": note}
            continue
        if name == "common":
            _check_common(results, first, other)
        both = (matrices[0][name], matrices[1][name])
        for row in _compare_effects(both, bootstrap, threshold, paired=name == "common"):
            yield row | {"detail": f"{name} pairs, {row['detail']}"}
        tested = [_ablations_of(part, name, threshold) for part in ablations]
        for row in _compare_ablations(tested[0], tested[1], bootstrap):
            yield row | {"detail": f"{name} pairs, {row['detail']}, threshold {threshold:g}"}


def _compare_effects(
    matrices: tuple[Floats, Floats], bootstrap: Bootstrap, threshold: float, *, paired: bool
) -> Iterator[Row]:
    """Sums over the circuit and over all components, and how the circuit's is distributed."""
    if note := _not_comparable(matrices):
        yield {"measure": "effect_sum", "detail": "sums of effects", "note": note}
        return
    shape = matrices[0].shape[1:]
    first, other = (matrix.reshape(len(matrix), -1) for matrix in matrices)
    samples = (paired_samples if paired else independent_samples)(first, other, bootstrap)
    told = {"interval": BOOTSTRAP.format("pairs"), "n": min(len(first), len(other))}
    told["test"] = BY_SWAPS.format("pair", "pair") if paired else BY_DEALING.format("pairs")

    def total(means: Floats, over: str, part: tuple[str, str] = (ALL, BOTH)) -> Floats:
        effects = means.reshape(-1, *shape)
        return part_sum(effects, members_of(effects, over, threshold), *part)

    circuit = f"threshold {threshold:g}"
    for over, detail in (("circuit", f"over the circuit, {circuit}"), (ALL, "over all components")):
        found = samples.compare(partial(total, over=over), bootstrap)
        yield told | _row("effect_sum", *found) | {"detail": detail}
    for part in _SHARES:

        def share(means: Floats, part: tuple[str, str] = part) -> Floats:
            return ratios(total(means, "circuit", part), total(means, "circuit"))

        named = part[1] if part[0] == ALL else f"{part[0]} layers"
        found = samples.compare(share, bootstrap)
        detail = f"{named} in the circuit, {circuit}"
        yield told | _row("effect_share", *found) | {"detail": detail}


def _not_comparable(matrices: tuple[Floats, Floats]) -> str | None:
    """Why effects cannot be compared, if they cannot."""
    if min(map(len, matrices)) < 2:
        return "a single pair of posts"
    if matrices[0].shape[1:] != matrices[1].shape[1:]:
        return "the models have other numbers of layers"
    return None


def _ablations_of(ablations: pl.DataFrame, name: str, threshold: float) -> pl.DataFrame:
    """The circuit's ablations at one threshold."""
    rows = ablations.with_columns(threshold=shortest_digits("threshold"))
    return rows.filter(set=name, threshold=threshold, circuit="effect")


def _compare_ablations(
    first: pl.DataFrame, other: pl.DataFrame, bootstrap: Bootstrap
) -> Iterator[Row]:
    """Sufficiency (relative) and necessity (points) of each method and place."""
    keys = ("measure", "method", "positions")
    found = {row: number for number, row in enumerate(other.select(keys).iter_rows())}
    for row in first.iter_rows(named=True):
        key = tuple(row[name] for name in keys)
        if key not in found:
            continue
        cells = [outcomes(row), outcomes(other.row(found[key], named=True))]
        unit = "relative" if row["measure"] == "sufficiency" else "points"
        values = [float(value_of(np.array(part, float), row["measure"], unit)) for part in cells]
        drawn = [
            value_of(resampled_counts(part, bootstrap, stream), row["measure"], unit)
            for stream, part in enumerate(cells)
        ]
        low, high = interval_ends(drawn[1] - drawn[0], bootstrap, row["n"])
        difference = Difference(values[1] - values[0], low, high, _normal_p(values, drawn))
        where = "all positions" if row["positions"] == "all" else "last position"
        yield _row(str(row["measure"]), values, difference) | {
            "detail": f"{row['method']} ablation, {where}, {unit}",
            "interval": _POSTS,
            "n": row["n"],
            "test": "normal approximation",
        }


def _normal_p(values: list[float], drawn: list[Floats]) -> float:
    """Two-sided p of a difference by the spread of resamples; NaN where nothing spreads."""
    spread = float(np.sqrt(sum(np.nanvar(part, ddof=1) for part in drawn)))
    if not spread > 0:
        return float("nan")
    return float(2 * norm.sf(abs(values[1] - values[0]) / spread))


def _check_common(results: Results, first: ComparedModel, other: ComparedModel) -> None:
    """StudyError where the common pairs of two models are not the same posts."""
    names = ["pairs" / model.folder / "pairs.parquet" for model in (first, other)]
    both = [
        results.table(name, PAIRS, model.model).filter(set="common").sort("pair")
        for name, model in zip(names, (first, other), strict=True)
    ]
    if not both[0].equals(both[1]):
        raise StudyError(
            f"{results.folder / names[1]}: other common pairs than {results.folder / names[0]}; "
            "remove both and run the workflow again"
        )


def _row(measure: str, values: list[float], found: Difference) -> Row:
    ends: Mapping[str, float] = vars(found)
    return {"measure": measure, "first_value": values[0], "other_value": values[1], **ends}
