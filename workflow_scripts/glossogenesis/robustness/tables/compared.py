"""How classifiers, circuits, features and knockouts differ between two models.

Both models classify the same posts, which makes accuracies and macro F1 paired. Pairs of the set
`own` differ between models, so their effects are samples drawn apart; pairs of the set `common` are
the same, and paired. Which components make up a circuit depends on the pairs too, and one that only
just reaches the threshold in one model must not count as a difference; so circuits are found again
in every resample and arrangement. Of ablations only counts are known: the two models' are resampled
apart and tested by the normal approximation, which leaves out that the posts are the same and errs
on the wide side.

Layers are compared where both models have them (`equal`), and each model's best one, by knockout
(`best`); what knockouts themselves do is then reported on other labels than chose the layer. What
both models do to the same posts, labels or concepts is paired; features of two dictionaries are
not: shares of features are tested by Fisher's exact test, which is the permutation test over
features, and have Newcombe's interval. Features are taken as independent;
another seed of the autoencoder is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binom, fisher_exact, norm

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.circuit import effect_matrices
from glossogenesis.robustness.knockout.summary import best_layer, compare_labels, compare_models
from glossogenesis.robustness.scores import macro_f1_of
from glossogenesis.robustness.tables import classification, features
from glossogenesis.robustness.tables.circuit import (
    ALL,
    BOTH,
    SETS,
    circuit_results,
    members_of,
    outcomes,
    part_sum,
    value_of,
)
from glossogenesis.robustness.tables.classification import label_counts, labels_of, right_answers
from glossogenesis.robustness.tables.inputs import ComparedModel, Results, shortest_digits
from glossogenesis.statistics.intervals import Bootstrap, newcombe_interval, paired_difference
from glossogenesis.statistics.resampling import (
    BOOTSTRAP,
    BY_PERMUTATION,
    BY_SIGNS,
    BY_SWAPS,
    NEWCOMBE,
    Difference,
    Floats,
    independent_samples,
    interval_ends,
    paired_means,
    paired_ratios,
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

OTHER_SPANS = "different tokenizers: a spelling may have more tokens in one of them"


def compare_classifiers(
    first: pl.DataFrame, other: pl.DataFrame, bootstrap: Bootstrap
) -> Iterator[Row]:
    """Accuracy (McNemar's exact test) and macro F1 of two tables of predictions."""
    right = [right_answers(predictions) for predictions in (first, other)]
    accuracy = paired_difference(right[0], right[1], range(first.height), bootstrap)
    gains, losses = (int(np.sum(a & ~b)) for a, b in (right[::-1], right))
    p = min(1.0, float(2 * binom.cdf(min(gains, losses), gains + losses, 0.5)))
    found = Difference(accuracy.value, accuracy.low, accuracy.high, p)
    cells = {"interval": _POSTS, "n": first.height}
    values = [float(part.mean()) for part in right]
    yield cells | _row("accuracy", values, found) | {"test": "McNemar, exact"}
    labels = labels_of(first, other)
    counts = [label_counts(predictions, labels) for predictions in (first, other)]
    compared = paired_samples(counts[0], counts[1], bootstrap).compare(macro_f1_of, bootstrap)
    yield cells | _row("macro_f1", *compared) | {"test": BY_SWAPS.format("post", "post")}


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
    cells = {"interval": BOOTSTRAP.format("pairs"), "n": min(len(first), len(other))}
    cells["test"] = BY_SWAPS.format("pair", "pair") if paired else BY_PERMUTATION.format("pairs")

    def total(means: Floats, over: str, part: tuple[str, str] = (ALL, BOTH)) -> Floats:
        effects = means.reshape(-1, *shape)
        return part_sum(effects, members_of(effects, over, threshold), *part)

    circuit = f"threshold {threshold:g}"
    for over, detail in (("circuit", f"over the circuit, {circuit}"), (ALL, "over all components")):
        found = samples.compare(partial(total, over=over), bootstrap)
        yield cells | _row("effect_sum", *found) | {"detail": detail}
    for part in _SHARES:

        def share(means: Floats, part: tuple[str, str] = part) -> Floats:
            return ratios(total(means, "circuit", part), total(means, "circuit"))

        named = part[1] if part[0] == ALL else f"{part[0]} layers"
        found = samples.compare(share, bootstrap)
        detail = f"{named} in the circuit, {circuit}"
        yield cells | _row("effect_share", *found) | {"detail": detail}


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


@dataclass(frozen=True)
class Comparison:
    """Two models, and the autoencoders of one name of both."""

    results: Results
    first: ComparedModel
    other: ComparedModel
    sae: str
    same_tokenizer: bool
    bootstrap: Bootstrap

    @property
    def models(self) -> tuple[ComparedModel, ComparedModel]:
        """Both."""
        return self.first, self.other

    @property
    def equal_layers(self) -> list[int]:
        """Layers that both have."""
        return [layer for layer in self.first.layers if layer in self.other.layers]

    def drops(self) -> list[pl.DataFrame]:
        """What knockout does to each label, of both."""
        return [classification.read_drops(self.results, model, self.sae) for model in self.models]

    def layers(self) -> list[tuple[str, int, int]]:
        """Rule and layers that are compared: each model's best first, where both have one."""
        best = [best_layer(drops) for drops in self.drops()]
        found = [("equal", layer, layer) for layer in self.equal_layers]
        if best[0] is not None and best[1] is not None:
            found.insert(0, ("best", best[0], best[1]))
        return found


def compare_features(comparison: Comparison) -> Iterator[Row]:
    """Label-specific share of every layer and of all, and how features fire for a post."""
    counts = []
    for layer in comparison.equal_layers:
        where = {"rule": "equal", "layer_first": layer, "layer_other": layer}
        both = [
            features.read_dictionary(comparison.results, model, layer, comparison.sae)
            for model in comparison.models
        ]
        counts.append([(each.specific, each.distinguishing, len(each.variety)) for each in both])
        yield from (where | row for row in _compare_counts(counts[-1]))
        if not comparison.same_tokenizer:
            cells = {"measure": "l0", "note": OTHER_TOKENIZER}
            yield where | cells
            continue
        for measure in features.POST_MEASURES:
            first, other = (each.over_posts(measure) for each in both)
            found = paired_ratios(first, other, comparison.bootstrap)
            yield (
                where
                | _feature_row(measure, [first.value, other.value], found)
                | {
                    "interval": BOOTSTRAP.format("posts"),
                    "n": min(first.n, other.n),
                    "test": BY_SWAPS.format("post", "post"),
                }
            )
    if counts:
        over_layers = {"rule": "equal", "detail": f"over {len(counts)} layers"}
        yield from (over_layers | row for row in _compare_counts(np.sum(counts, axis=0).tolist()))


def compare_knockouts(comparison: Comparison) -> Iterator[Row]:
    """Mean change of recall over labels, in points, and beyond that of the matched control."""
    first, other = comparison.drops()
    keys = ("rule", "condition", "layer_first", "layer_other")
    means = (
        compare_labels(first, other)
        .group_by(keys)
        .agg(first_value=pl.col("first").mean(), other_value=pl.col("other").mean())
    )
    found = compare_models(first, other, bootstrap=comparison.bootstrap).join(
        means, on=list(keys), how="left", maintain_order="left", nulls_equal=True
    )
    details = {"top": "top features", "net": "top features beyond frequency-matched ones"}
    not_told = {"condition", "labels", "sign_flips"}
    for row in found.iter_rows(named=True):
        yield {name: row[name] for name in row.keys() - not_told} | {
            "measure": "delta",
            "detail": details[row["condition"]],
            "interval": BOOTSTRAP.format("labels"),
            "n": row["labels"],
            "test": BY_SIGNS.format("labels"),
            "note": "the sign turns without one label" if row["sign_flips"] else None,
        }


def compare_cues(comparison: Comparison) -> Iterator[Row]:
    """Mean over the top features of each label, at best and equal layers, paired over labels."""
    for rule, *layers in comparison.layers():
        where = {"rule": rule, "layer_first": layers[0], "layer_other": layers[1]}
        first, other = (
            features.read_cues(comparison.results, model, layer, comparison.sae)
            for model, layer in zip(comparison.models, layers, strict=True)
        )
        for measure in features.MEASURES:
            if measure in features.OF_TOKENS and not comparison.same_tokenizer:
                yield where | {"measure": measure, "note": OTHER_TOKENIZER}
                continue
            both = features.label_means(first, measure).join(
                features.label_means(other, measure), on="label", maintain_order="left"
            )
            yield where | _paired(
                measure, both["value"], both["value_right"], "labels", comparison.bootstrap
            )


def compare_variants(comparison: Comparison) -> Iterator[Row]:
    """Survival of every arm and k at equal layers, paired over concepts."""
    first, other = (
        features.read_variants(comparison.results, model, comparison.sae)
        for model in comparison.models
    )
    keys = ("layer", "arm", "k")
    for values, part in first.group_by(keys, maintain_order=True):
        layer, arm, k = values
        theirs = other.filter(layer=layer, arm=arm, k=k)
        if layer not in comparison.equal_layers or theirs.is_empty():
            continue
        both = features.concept_means(part).join(
            features.concept_means(theirs), on="concept", maintain_order="left"
        )
        row = _paired(
            "survival", both["survival"], both["survival_right"], "concepts", comparison.bootstrap
        )
        yield row | {
            "rule": "equal",
            "layer_first": layer,
            "layer_other": layer,
            "detail": f"{arm}, k = {k}",
            "note": None if comparison.same_tokenizer else OTHER_SPANS,
        }


def _compare_counts(counts: Sequence[Sequence[int]]) -> Iterator[Row]:
    """Shares of label-specific, distinguishing, and all features of both models.

    How many features distinguish a label is a count; in dictionaries of one size it is compared as
    their share in them.
    """
    shares = [(specific, distinguishing) for specific, distinguishing, _ in counts]
    yield {"measure": "label_specific_share"} | _compare_shares(shares)
    shares = [(distinguishing, size) for _, distinguishing, size in counts]
    yield {"measure": "distinguishing_share"} | _compare_shares(shares)


def _compare_shares(counts: Sequence[tuple[int, int]]) -> Row:
    """Some among more features of both models."""
    (few_first, all_first), (few_other, all_other) = counts
    values = [few / total if total else float("nan") for few, total in counts]
    row = {"first_value": values[0], "other_value": values[1], "n": min(all_first, all_other)}
    if not all_first or not all_other:
        return row | {"note": "no feature distinguishes a label"}
    table = [[few, total - few] for few, total in counts]
    ends = newcombe_interval((few_other, all_other), (few_first, all_first))
    found = Difference(values[1] - values[0], *ends, float(fisher_exact(table).pvalue))
    return row | vars(found) | {"interval": NEWCOMBE, "test": "Fisher's exact, over features"}


def _paired(
    measure: str, first: pl.Series, other: pl.Series, items: str, bootstrap: Bootstrap
) -> Row:
    """A difference of means over the same items, tested by sign flips."""
    found = paired_means(first.to_numpy(), other.to_numpy(), bootstrap)
    values = [float(part.to_numpy().mean()) if len(part) else None for part in (first, other)]
    return _feature_row(measure, values, found) | {
        "interval": BOOTSTRAP.format(items),
        "n": len(first),
        "test": BY_SIGNS.format(items),
    }


def _feature_row(measure: str, values: Sequence[float | None], found: Difference) -> Row:
    return {"measure": measure, "first_value": values[0], "other_value": values[1], **vars(found)}
