"""The four tables of a classifier's features: by label, by feature, cues, and by post."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.posts import Posts
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.models.activation_order import SPLIT, check_same_corpus
from glossogenesis.robustness.cues import cues_of, cues_table
from glossogenesis.robustness.label_effects import (
    Specificity,
    corrected_specificity,
    label_variety,
    shuffled_specificity,
    top_features,
)
from glossogenesis.robustness.label_features import CollectedPosts, PostMeasures, collect_posts
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.statistics.intervals import by_halves
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.study.robustness import LabelFeatureSettings

Integers = NDArray[np.int64]

LABELS_SCHEMA = pl.Schema(
    {
        "feature": pl.Int32,
        "label": pl.String,
        "d_mean": pl.Float32,
        "d_max": pl.Float32,
        "d_last": pl.Float32,
        "mean": pl.Float32,
    }
)

FEATURES_SCHEMA = pl.Schema(
    {
        "feature": pl.Int32,
        "variety": pl.Int32,
        "top_label": pl.String,
        "firing_frequency": pl.Float64,
        "post_frequency": pl.Float64,
        "mean_activation": pl.Float32,
    }
)

POST_FEATURES_SCHEMA = pl.Schema(
    {
        "number": pl.Int32,
        "tokens": pl.Int32,
        "l0": pl.Float64,
        "active": pl.Int32,
        "top_ratio": pl.Float64,
        "squared_error": pl.Float64,
        "squared_norm": pl.Float64,
    }
)

FIGURES = {"label_specific_share": "share", "mean_variety": "mean_variety"}
"""Facts that have an interval and a control, and what they are called among draws."""


@dataclass(frozen=True)
class LabelFeatures:
    """What is known of one autoencoder's features and the labels."""

    labels: pl.DataFrame
    """Rows of `LABELS_SCHEMA`: every feature with every label."""
    features: pl.DataFrame
    """Rows of `FEATURES_SCHEMA`."""
    cues: pl.DataFrame
    """Rows of `cues.CUES_SCHEMA`: the top features of each label."""
    posts: pl.DataFrame
    """Rows of `POST_FEATURES_SCHEMA`."""
    facts: dict[str, Any]
    """JSON: figures of the whole autoencoder, with intervals and controls."""


def collect_label_features(
    sae: SparseAutoencoder,
    cache: ActivationCache,
    corpus: TokenisedCorpus,
    posts: Posts,
    settings: LabelFeatureSettings,
    seed: int,
) -> LabelFeatures:
    """Describe how an autoencoder's features relate to labels, on held-out posts.

    Args:
        sae: the autoencoder, on the device to compute on.
        cache: the classifier's activations of its layer.
        corpus: the tokenised posts that they were taken from.
        posts: the posts.
        settings: pooling, threshold and how much is looked at.
        seed: seed of resamples and shuffles.

    Raises:
        StudyError: activations, corpus and posts do not belong together, or there are none.
    """
    check_same_posts(cache, corpus, posts)
    label_ids = posts.label_ids(SPLIT)
    found = collect_posts(sae, cache, label_ids, len(posts.labels), settings)
    d = found.labels.d(settings.pooling)
    variety = label_variety(d, settings.threshold)
    top = top_features(d, settings.top)
    vocabulary = corpus.vocabulary()
    wanted = np.unique(np.concatenate(top)).tolist()
    cues = cues_of(found.strongest.of_features(wanted), corpus, SPLIT)
    return LabelFeatures(
        labels=labels_table(found, posts.labels, d, settings),
        features=features_table(found, posts.labels, d, variety),
        cues=cues_table(posts.labels, top, d, cues, vocabulary),
        posts=posts_table(found.posts),
        facts=facts_of(found, variety) | specificity_facts(found, label_ids, settings, seed),
    )


def check_same_posts(cache: ActivationCache, corpus: TokenisedCorpus, posts: Posts) -> None:
    """StudyError where activations, tokenised posts and posts are not of the same posts."""
    check_same_corpus(cache, corpus)
    number, tokenised = posts.of(SPLIT).height, corpus.facts(SPLIT).contexts
    if number != tokenised:
        raise StudyError(
            f"{posts.path}: has {number} held-out posts, but {corpus.folder} has {tokenised}; "
            "remake the latter with `snakemake --forcerun tokenise_posts`"
        )


def labels_table(
    found: CollectedPosts,
    labels: Sequence[str],
    d: NDArray[np.float32],
    settings: LabelFeatureSettings,
) -> pl.DataFrame:
    """Return the rows of `labels.parquet`, feature after feature."""
    n_labels, n_latents = d.shape
    counts = found.labels.posts[:, None]
    mean = np.full(d.shape, np.nan)
    np.divide(found.labels.sums[settings.pooling], counts, out=mean, where=counts > 0)
    columns = {
        "feature": np.repeat(np.arange(n_latents), n_labels),
        "label": pl.Series(labels, dtype=pl.String)[np.tile(np.arange(n_labels), n_latents)],
        **{f"d_{pooling}": found.labels.d(pooling).T.ravel() for pooling in found.labels.sums},
        "mean": mean.T.ravel(),
    }
    return _table(columns, LABELS_SCHEMA)


def features_table(
    found: CollectedPosts, labels: Sequence[str], d: NDArray[np.float32], variety: Integers
) -> pl.DataFrame:
    """Return the rows of `features.parquet`."""
    best = np.where(d.max(axis=0) > 0, d.argmax(axis=0), len(labels))
    columns = {
        "feature": np.arange(len(variety)),
        "variety": variety,
        "top_label": pl.Series([*labels, None], dtype=pl.String)[best],
        "firing_frequency": found.features.firings / found.overall.tokens,
        "post_frequency": found.features.posts / found.labels.posts.sum(),
        "mean_activation": found.features.mean,
    }
    return _table(columns, FEATURES_SCHEMA)


def posts_table(measures: PostMeasures) -> pl.DataFrame:
    """Return the rows of `posts.parquet`."""
    names = [name for name in POST_FEATURES_SCHEMA if name != "number"]
    columns = {name: getattr(measures, name) for name in names}
    return _table({"number": np.arange(len(measures.active)), **columns}, POST_FEATURES_SCHEMA)


def facts_of(found: CollectedPosts, variety: Integers) -> dict[str, Any]:
    """Figures of the autoencoder on all held-out tokens."""
    specificity = Specificity.of(variety)
    return {
        "activations": "in the space that the autoencoder sees",
        "tokens": found.overall.tokens,
        "posts": len(found.posts.active),
        "latents": len(variety),
        "alive": int((found.features.firings > 0).sum()),
        "l0": found.overall.l0,
        "active_in_a_post": float(found.posts.active.mean()),
        "top_ratio": _mean(found.posts.top_ratio),
        "explained_variance": found.overall.explained_variance,
        "specific": specificity.specific,
        "distinguishing": specificity.distinguishing,
        "label_specific_share_counted": specificity.share,
        "mean_variety_counted": specificity.mean_variety,
    }


def specificity_facts(
    found: CollectedPosts,
    label_ids: Integers,
    settings: LabelFeatureSettings,
    seed: int,
) -> dict[str, Any]:
    """Label-specific share and mean variety with intervals, and both for shuffled labels.

    Those of shuffled labels are counted, to be compared with the counted ones.
    """
    pooled = found.labels.of_posts()
    n_labels = len(found.labels.posts)
    given = (pooled, label_ids, n_labels, settings.threshold)
    corrected = corrected_specificity(*given, resamples=settings.resamples, seed=seed)
    shuffled = shuffled_specificity(*given, shuffles=settings.shuffles, seed=seed)
    facts: dict[str, Any] = {"labels": n_labels}
    for fact, name in FIGURES.items():
        values = getattr(corrected, name)
        estimate = by_halves(values, top=n_labels if name == "mean_variety" else 1)
        facts |= {
            fact: _known(estimate.value),
            f"{fact}_low": _known(estimate.low),
            f"{fact}_high": _known(estimate.high),
            # Halves are the same posts at every layer: a mean over layers is taken half by half.
            f"{fact}_halves": [_known(value) for value in values[1:].tolist()],
        }
    facts["shuffled"] = {fact: shuffled.mean(name) for fact, name in FIGURES.items()}
    return facts


def _table(columns: dict[str, Any], schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame(columns, nan_to_null=True).cast(schema)


def _known(value: float) -> float | None:
    """A number as JSON has it: None where it is NaN."""
    return None if np.isnan(value) else value


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean of the values that are not NaN; None where all are."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None
