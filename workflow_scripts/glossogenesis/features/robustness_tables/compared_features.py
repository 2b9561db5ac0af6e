"""How features, knockouts, cues and spelling variants differ between two models.

Layers are compared where both models have them (`equal`), and each model's best one, by knockout
(`best`); what knockouts themselves do is then reported on other labels than chose the layer. What
both models do to the same posts, labels or concepts is paired; features of two dictionaries are
not: shares of features are tested by Fisher's exact test, which is the permutation test over
features, and have Newcombe's interval. Features are taken as independent;
another seed of the autoencoder is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import fisher_exact

from glossogenesis.features.robustness_tables import cues, knockout, variants
from glossogenesis.robustness.knockout.summary import best_layer, compare_labels, compare_models
from glossogenesis.robustness.tables import features
from glossogenesis.robustness.tables.inputs import ComparedModel, Results
from glossogenesis.statistics.intervals import Bootstrap, newcombe_interval
from glossogenesis.statistics.resampling import (
    BOOTSTRAP,
    BY_SIGNS,
    BY_SWAPS,
    NEWCOMBE,
    Difference,
    paired_means,
    paired_ratios,
)

Row = dict[str, Any]

OTHER_TOKENIZER = "different tokenizers: labels alone are compared"
OTHER_SPANS = "different tokenizers: a spelling may have more tokens in one of them"


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
        return [knockout.read_drops(self.results, model, self.sae) for model in self.models]

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
            told = {"measure": "l0", "note": OTHER_TOKENIZER}
            yield where | told
            continue
        for measure in features.POST_MEASURES:
            first, other = (each.over_posts(measure) for each in both)
            found = paired_ratios(first, other, comparison.bootstrap)
            yield (
                where
                | _row(measure, [first.value, other.value], found)
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
            cues.read_cues(comparison.results, model, layer, comparison.sae)
            for model, layer in zip(comparison.models, layers, strict=True)
        )
        for measure in cues.MEASURES:
            if measure in cues.OF_TOKENS and not comparison.same_tokenizer:
                yield where | {"measure": measure, "note": OTHER_TOKENIZER}
                continue
            both = cues.label_means(first, measure).join(
                cues.label_means(other, measure), on="label", maintain_order="left"
            )
            yield where | _paired(
                measure, both["value"], both["value_right"], "labels", comparison.bootstrap
            )


def compare_variants(comparison: Comparison) -> Iterator[Row]:
    """Survival of every arm and k at equal layers, paired over concepts."""
    first, other = (
        variants.read_variants(comparison.results, model, comparison.sae)
        for model in comparison.models
    )
    keys = ("layer", "arm", "k")
    for values, part in first.group_by(keys, maintain_order=True):
        layer, arm, k = values
        theirs = other.filter(layer=layer, arm=arm, k=k)
        if layer not in comparison.equal_layers or theirs.is_empty():
            continue
        both = variants.concept_means(part).join(
            variants.concept_means(theirs), on="concept", maintain_order="left"
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
    return _row(measure, values, found) | {
        "interval": BOOTSTRAP.format(items),
        "n": len(first),
        "test": BY_SIGNS.format(items),
    }


def _row(measure: str, values: Sequence[float | None], found: Difference) -> Row:
    return {"measure": measure, "first_value": values[0], "other_value": values[1], **vars(found)}
