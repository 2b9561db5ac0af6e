"""Tables of dictionaries, of cues and of spelling variants.

A feature distinguishes a label where Cohen's d of the label's posts exceeds the threshold; it is
label-specific where it distinguishes one label alone. Share and variety are corrected for what
noise in d adds to a count; beside them stands what was counted, which is what the same under labels
that are assigned to posts at random is to be compared with. Rows without a layer are over all
layers: counts of features are added, of the rest it is the mean.

A value is the mean over the label's top features, each looked at where it is strongest; the
interval resamples those features. Rows of label `mean` are over labels, which are resampled. A few
tokens that make up most of a feature's strongest activations say that the label rests on few cues.

The survival of spelling b without a, of ordered pairs within a concept, is the share of b's k
strongest features that are not a's; `chance` is what random features would give, and `unrelated`
what spellings of other concepts give in the place of a. Values are means over the pairs of a
concept, then over concepts, which are resampled for the interval; pairs whose second spelling makes
no feature fire do not count. Where fewer than k features fire on a spelling, all of them are
compared, and the row says in how many pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from glossogenesis.robustness.tables.inputs import (
    ComparedModel,
    Results,
    frame_of,
    layers_with_saes,
    table_schema,
)
from glossogenesis.statistics.intervals import Bootstrap, by_halves
from glossogenesis.statistics.resampling import (
    BOOTSTRAP,
    BY_HALVES,
    Ratio,
    interval_ends,
    mean_estimate,
    ratio_estimate,
    ratios,
    resampled_counts,
)

POST_MEASURES = ("l0", "active_per_post", "top_ratio")
"""Measures of how features fire, known post by post."""

FEATURES = {"feature": pl.Int32, "variety": pl.Int32}
POSTS = {
    "number": pl.Int32,
    "tokens": None,
    **dict.fromkeys(("l0", "active", "top_ratio")),
    **dict.fromkeys(("squared_error", "squared_norm"), pl.Float64),
}
SPECIFICITY = ("label_specific_share", "mean_variety")
FACTS = (
    *("explained_variance", "labels", "shuffled"),
    *(f"{n}{end}" for n in SPECIFICITY for end in ("", "_low", "_high", "_halves", "_counted")),
)

FEATURES_SCHEMA = table_schema(
    {
        "layer": pl.Int32,
        "sae": pl.String,
        "labels": pl.String,
        "measure": pl.String,
    },
    {"l0": pl.Float64},
)
_POSTS = BOOTSTRAP.format("posts")

_COLUMN = {"active_per_post": "active"}

MEAN = "mean"
"""The label of rows over all labels."""

MEASURES = ("top_token_share", "unique_tokens", "top_surface_share", "unique_surfaces")
OF_TOKENS = ("top_token_share", "unique_tokens")
"""Measures by token ids, which models of other tokenizers do not share."""

MOST_SURFACES = 10
"""Surface forms that a row names."""

CUES = {
    "label": pl.String,
    "rank": pl.Int32,
    "feature": pl.Int32,
    "n": None,
    **dict.fromkeys(MEASURES),
    "surfaces": pl.List(pl.String),
    "counts": None,
}
CUES_SCHEMA = table_schema(
    {
        "layer": pl.Int32,
        "sae": pl.String,
        "label": pl.String,
        "measure": pl.String,
    },  # n is the number of features, or of labels in rows of all
    {
        "activations": pl.Int64,
        "surfaces": pl.String,
    },
)

ALL = "all"
"""The kinds of rows over all pairs."""

SURVIVAL = {
    "layer": pl.Int16,
    "arm": pl.String,
    "k": pl.Int32,
    "concept": pl.String,
    "first_kind": pl.String,
    "second_kind": pl.String,
    "survival": pl.Float64,
    "chance": pl.Float64,
    "unrelated": pl.Float64,
    "first_features": pl.Int32,
    "second_features": pl.Int32,
}
VARIANTS_SCHEMA = table_schema(
    {
        "layer": pl.Int32,
        "sae": pl.String,
        "arm": pl.String,
        "k": pl.Int32,
        "kinds": pl.String,
        "measure": pl.String,
    },  # n is the number of concepts
    {
        "chance": pl.Float64,
        "unrelated": pl.Float64,
        "pairs": pl.Int64,
        "fewer": pl.Int64,
        "note": pl.String,
    },
)
FEWER = "some spellings have fewer than {} features, all of which are compared: see `fewer`"
_KEYS = ("layer", "arm", "k")


@dataclass(frozen=True, eq=False)
class Dictionary:
    """The features of one autoencoder."""

    variety: pl.Series
    """Label variety of every feature."""
    posts: pl.DataFrame
    """How features fire for every held-out post, by its number."""
    facts: Mapping[str, Any]

    @property
    def specific(self) -> int:
        """Features that distinguish one label."""
        return int((self.variety == 1).sum())

    @property
    def distinguishing(self) -> int:
        """Features that distinguish a label, or several."""
        return int((self.variety >= 1).sum())

    def over_posts(self, measure: str) -> Ratio:
        """A measure of `POST_MEASURES` as a ratio of sums over posts.

        What is an average over a post's tokens counts as many times as the post has tokens; a post
        in which it is not defined, not at all.
        """
        values = self.posts[_COLUMN.get(measure, measure)].cast(pl.Float64).to_numpy()
        tokens = self.posts["tokens"].cast(pl.Float64).to_numpy()
        weights = np.ones_like(tokens) if measure == "active_per_post" else tokens
        weights = np.where(np.isfinite(values), weights, 0)
        return Ratio(np.nan_to_num(values) * weights, weights)


def read_dictionary(results: Results, model: ComparedModel, layer: int, sae: str) -> Dictionary:
    """What is known of one autoencoder's features."""
    folder = Path("post_features", model.folder, f"layer_{layer}", sae)
    features = results.table(folder / "features.parquet", FEATURES, model.model)
    posts = results.table(folder / "posts.parquet", POSTS, model.model)
    facts = results.facts(folder / "posts.parquet", FACTS)
    return Dictionary(features["variety"], posts.sort("number"), facts)


def features_table(
    results: Results, models: Sequence[ComparedModel], saes: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of every layer of every model and autoencoder, then over layers; `FEATURES_SCHEMA`."""
    rows = []
    for model in models:
        for sae in saes:
            facts = model.facts | {"sae": sae}
            found = [read_dictionary(results, model, layer, sae) for layer in model.layers]
            for layer, dictionary in zip(model.layers, found, strict=True):
                cells = facts | {"layer": layer, "l0": dictionary.over_posts("l0").value}
                rows += [cells | row for row in _dictionary_rows(dictionary, bootstrap)]
            rows += [facts | row for row in _over_layers(found, bootstrap)]
    return frame_of(rows, FEATURES_SCHEMA)


def explained_variance(dictionary: Dictionary, bootstrap: Bootstrap) -> dict[str, Any]:
    """Explained variance with an interval over posts."""
    unexplained = unexplained_variance(dictionary)
    if unexplained is None:
        return {"value": None}
    return _mean_over_layers([unexplained], bootstrap, complement=True)


def unexplained_variance(dictionary: Dictionary) -> Ratio | None:
    """E|x - x̂|² / (E|x|² - |E x|²) as a ratio of sums over posts; None where it is not known.

    The mean activation is held fixed: the last term is what the value itself leaves for it.
    """
    value = dictionary.facts["explained_variance"]
    if value is None or not np.isfinite(value):
        return None
    errors, norms, tokens = (
        dictionary.posts[name].cast(pl.Float64).to_numpy()
        for name in ("squared_error", "squared_norm", "tokens")
    )
    variance = errors.sum() / (1 - value) if value < 1 else norms.sum()
    return Ratio(errors, norms - (norms.sum() - variance) / tokens.sum() * tokens)


def _mean_over_layers(
    layers: Sequence[Ratio], bootstrap: Bootstrap, *, complement: bool = False
) -> dict[str, Any]:
    """Mean over layers of ratios of sums over the same posts, which are resampled for all at once.

    Of a `complement`, 1 minus that.
    """
    times = resampled_counts(np.ones(len(layers[0].above)), bootstrap)
    drawn = np.mean([ratios(times @ each.above, times @ each.below) for each in layers], axis=0)
    value = float(np.mean([each.value for each in layers]))
    n = min(each.n for each in layers)
    low, high = interval_ends(drawn, bootstrap, n)
    found = {"interval": _POSTS, "n": n}
    if complement:
        return {"value": 1 - value, "low": 1 - high, "high": 1 - low, **found}
    return {"value": value, "low": low, "high": high, **found}


def _dictionary_rows(dictionary: Dictionary, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Rows of one layer."""
    size = len(dictionary.variety)
    rows = [
        {"measure": "dictionary_size", "value": size},
        {"measure": "explained_variance", **explained_variance(dictionary, bootstrap)},
    ]
    for measure in POST_MEASURES:
        ratio = dictionary.over_posts(measure)
        estimate = ratio_estimate(ratio.above, ratio.below, bootstrap)
        rows.append({"measure": measure, **vars(estimate), "interval": _POSTS, "n": ratio.n})
    return [*rows, *_specificity_rows(dictionary)]


def _specificity_rows(dictionary: Dictionary) -> list[dict[str, Any]]:
    """Label variety, corrected for noise; as counted, with the posts' labels and shuffled ones."""
    size, facts = len(dictionary.variety), dictionary.facts
    counts = {"label_specific": dictionary.specific, "distinguishing": dictionary.distinguishing}
    rows = [{"measure": name, "value": count, "n": size} for name, count in counts.items()]
    for measure, n in zip(SPECIFICITY, (dictionary.distinguishing, size), strict=True):
        ends = {end: facts[f"{measure}_{end}"] for end in ("low", "high")}
        interval = None if ends["low"] is None else BY_HALVES
        own = {"measure": measure, "value": facts[measure], "n": n, "interval": interval}
        rows.append(own | ends)
        counted = f"{measure}_counted"
        rows.append({"measure": counted, "value": facts[counted], "n": n})
        rows.append({"measure": counted, "labels": "shuffled", "value": facts["shuffled"][measure]})
    return [{"labels": "own"} | row for row in rows]


def _over_layers(found: Sequence[Dictionary], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Features of all layers together, and means over layers."""
    specific = sum(dictionary.specific for dictionary in found)
    distinguishing = sum(dictionary.distinguishing for dictionary in found)
    size = sum(len(dictionary.variety) for dictionary in found)
    rows: list[dict[str, Any]] = [
        {"measure": "dictionary_size", "value": size},
        {"measure": "label_specific", "value": specific, "n": size},
        {"measure": "distinguishing", "value": distinguishing, "n": size},
    ]
    for measure, n in zip(SPECIFICITY, (distinguishing, size), strict=True):
        rows.append({"measure": measure, "n": n, **_corrected_mean(found, measure)})
    of_posts = [
        {
            "measure": measure,
            **_mean_over_layers([each.over_posts(measure) for each in found], bootstrap),
        }
        for measure in POST_MEASURES
    ]
    unexplained = [known for known in map(unexplained_variance, found) if known is not None]
    if len(unexplained) == len(found):
        explained = _mean_over_layers(unexplained, bootstrap, complement=True)
        of_posts.append({"measure": "explained_variance", **explained})
    return [*({"labels": "own"} | row for row in rows), *of_posts]


def _corrected_mean(found: Sequence[Dictionary], measure: str) -> dict[str, Any]:
    """Mean over layers of a corrected figure, by the halves of posts that all layers share."""
    of_layers = [
        [dictionary.facts[measure], *dictionary.facts[f"{measure}_halves"]] for dictionary in found
    ]
    values = np.array(of_layers, dtype=np.float64).mean(axis=0)
    top = max(dictionary.facts["labels"] for dictionary in found)
    estimate = by_halves(values, top=top if measure == "mean_variety" else 1)
    interval = None if np.isnan(estimate.low) else BY_HALVES
    return {**vars(estimate), "interval": interval}


def read_cues(results: Results, model: ComparedModel, layer: int, sae: str) -> pl.DataFrame:
    """The cues of one autoencoder: one row per label and feature, of the features that fire."""
    name = "post_features" / model.folder / f"layer_{layer}" / sae / "cues.parquet"
    return results.table(Path(name), CUES, model.model).filter(pl.col("n") > 0)


def cues_table(
    results: Results, models: Sequence[ComparedModel], saes: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of every autoencoder and label, then of all labels; `CUES_SCHEMA`."""
    rows = []
    for model, layer, sae in layers_with_saes(models, saes):
        facts = model.facts | {"layer": layer, "sae": sae}
        cues = read_cues(results, model, layer, sae)
        rows += [facts | row for row in _cue_rows(cues, bootstrap)]
    return frame_of(rows, CUES_SCHEMA)


def label_means(cues: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Mean of a measure over the top features of each label: label, value; sorted by label."""
    means = cues.group_by("label").agg(value=pl.col(measure).cast(pl.Float64).mean())
    return means.sort("label")


def _cue_rows(cues: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    rows = []
    for (label,), part in cues.sort("label", "rank").group_by("label", maintain_order=True):
        cells = {"activations": int(part["n"].sum()), "surfaces": _frequent(part)}
        for measure in MEASURES:
            estimate = mean_estimate(part[measure].to_numpy(), bootstrap)
            rows.append(
                {"label": label, "measure": measure, **vars(estimate), "n": part.height}
                | {"interval": BOOTSTRAP.format("features"), **cells}
            )
    for measure in MEASURES:
        means = label_means(cues, measure)
        estimate = mean_estimate(means["value"].to_numpy(), bootstrap)
        rows.append(
            {"label": MEAN, "measure": measure, **vars(estimate), "n": means.height}
            | {"interval": BOOTSTRAP.format("labels"), "activations": int(cues["n"].sum())}
        )
    return rows


def _frequent(part: pl.DataFrame) -> str:
    """Surface forms by the activations that they have in all features together, most first."""
    counted: Counter[str] = Counter()
    for surfaces, counts in part.select("surfaces", "counts").iter_rows():
        for surface, count in zip(surfaces, counts, strict=True):
            counted[surface] += count
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{surface} ({count})" for surface, count in ordered[:MOST_SURFACES])


def read_variants(results: Results, model: ComparedModel, sae: str) -> pl.DataFrame:
    """Survival of every pair of spellings in the autoencoders of one model, where it is defined."""
    name = "spelling_variants" / model.folder / f"{sae}.parquet"
    return results.table(name, SURVIVAL, model.model).drop_nulls("survival")


def variants_table(
    results: Results, models: Sequence[ComparedModel], saes: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Rows of every layer, arm and k, over all pairs and by their kinds; `VARIANTS_SCHEMA`."""
    rows = []
    for model in models:
        for sae in saes:
            pairs = read_variants(results, model, sae)
            kinds = pl.concat_str("first_kind", pl.lit(" → "), "second_kind")
            both = pl.concat(
                [pairs.with_columns(kinds=pl.lit(ALL)), pairs.with_columns(kinds=kinds)]
            )
            rows += [model.facts | {"sae": sae} | row for row in _variant_rows(both, bootstrap)]
    return frame_of(rows, VARIANTS_SCHEMA)


def concept_means(pairs: pl.DataFrame) -> pl.DataFrame:
    """Mean over the pairs of each concept, by concept; columns as in `SURVIVAL`, and pairs."""
    values = pl.col("survival", "chance", "unrelated").mean()
    means = pairs.group_by("concept").agg(values, pairs=pl.len())
    return means.sort("concept")


def _variant_rows(pairs: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    rows = []
    order = (pl.col("kinds") != ALL, "kinds")
    groups = pairs.sort("layer", pl.col("arm") != "sentence", "arm", "k", *order, "concept")
    for keys, part in groups.group_by(*_KEYS, "kinds", maintain_order=True):
        means = concept_means(part)
        estimate = mean_estimate(means["survival"].to_numpy(), bootstrap)
        rows.append(
            {**dict(zip((*_KEYS, "kinds"), keys, strict=True)), "measure": "survival"}
            | {**vars(estimate), "n": means.height, "interval": BOOTSTRAP.format("concepts")}
            | {name: means[name].mean() for name in ("chance", "unrelated")}
            | {"pairs": part.height, **_fewer(part)}
        )
    return rows


def _fewer(pairs: pl.DataFrame) -> dict[str, Any]:
    """In how many pairs a spelling has fewer than k features."""
    least = pl.min_horizontal("first_features", "second_features")
    short = pairs.filter(least < pl.col("k"))
    if not short.height:
        return {"fewer": 0}
    return {"fewer": short.height, "note": FEWER.format(pairs["k"][0])}
