"""Labels and monosemanticity of all features under any choices, each part computed once.

    R = 1 - H_semantic / H_token,

where H_token is the entropy of a feature's activating tokens, one from each of its examples, and
H_semantic that of the clusters of their embeddings. R is 1 where there is a single token type. The
clusters are agglomerative, by cosine distance, cut where clusters are less similar than a setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.features.language import (
    LanguageShares,
    label_features,
    label_names,
    language_shares,
    lettered,
    token_languages,
)
from glossogenesis.features.schemas import DEFAULT, WITHOUT_SHARE, sensitivity_schema
from glossogenesis.progress import progress
from glossogenesis.study.features import (
    LanguageBy,
    LanguageRule,
    Linkage,
    MonosemanticityRule,
    Sensitivity,
)

Reals = NDArray[np.float64]

_Sample = tuple[float, int]
_Clustering = tuple[str, str, _Sample]

_ROUNDING = 1e-6
"""Distances are cut this much later: cosines of float32 vectors are known to about that."""

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Measured:
    """What some choices make of the features; every array is [feature], or [feature, language]."""

    labels: NDArray[np.int64]
    """Numbers of `language.label_names`."""
    symbol_shares: Reals
    """Share of the examples without letters."""
    shares: Reals
    """Share of the others in each language."""
    token_types: NDArray[np.int64]
    token_entropy: Reals
    meaning_entropy: Reals
    monosemanticity: Reals


def measure_all(
    choices: Sequence[Choices],
    examples: Mapping[float, Examples],
    firings: NDArray[np.int64],
    corpus: TokenisedCorpus,
    scripts: Mapping[str, str],
    embedding_of: Callable[[str], Tensor],
) -> dict[Choices, Measured]:
    """Label every feature and measure its meanings under each of some choices.

    A feature with fewer examples than a choice measures has no label and no numbers by it. What
    several choices share, such as a clustering or the examples' languages, is computed once.

    Args:
        choices: what to compute.
        examples: by threshold, at least as many as any choice measures.
        firings: tokens on which each feature fired [feature].
        corpus: where the examples are.
        scripts: script of each language.
        embedding_of: vectors of tokens [token, dimension] by the name of the embedding.
    """
    samples = {
        sample: examples[sample[0]].exactly(sample[1])
        for sample in dict.fromkeys(map(_sample, choices))
    }
    types = {sample: TokenTypes.of(found) for sample, found in samples.items()}
    letters = {sample: lettered(found, corpus) for sample, found in samples.items()}
    entropies = _meaning_entropies(choices, types, embedding_of)
    shares: dict[tuple[_Sample, LanguageBy], LanguageShares] = {}
    measured: dict[Choices, Measured] = {}
    for chosen in choices:
        sample = _sample(chosen)
        key = (sample, chosen.by)
        if key not in shares:
            languages = token_languages(chosen.by, samples[sample], corpus, scripts)
            shares[key] = language_shares(
                samples[sample], languages, letters[sample], len(corpus.languages), by=chosen.by
            )
        token_entropy = types[sample].entropies()
        meaning_entropy = entropies[_clustering(chosen)][chosen.cosine]
        measured[chosen] = Measured(
            labels=label_features(
                shares[key],
                firings,
                share=chosen.share,
                bilingual_share=chosen.bilingual_share,
                symbol_share=chosen.symbol_share,
            ),
            symbol_shares=shares[key].symbols,
            shares=shares[key].by_language,
            token_types=types[sample].number,
            token_entropy=token_entropy,
            meaning_entropy=meaning_entropy,
            monosemanticity=monosemanticity(token_entropy, meaning_entropy),
        )
    return measured


def _sample(chosen: Choices) -> _Sample:
    """Which examples are measured: of which threshold, and how many."""
    return chosen.threshold, chosen.examples


def _clustering(chosen: Choices) -> _Clustering:
    return chosen.embedding, chosen.linkage, _sample(chosen)


def _meaning_entropies(
    choices: Sequence[Choices],
    types: Mapping[_Sample, TokenTypes],
    embedding_of: Callable[[str], Tensor],
) -> dict[_Clustering, dict[float, Reals]]:
    """H_semantic by clustering and cosine; one embedding is in memory at a time."""
    found = {}
    for embedding in dict.fromkeys(chosen.embedding for chosen in choices):
        unit = unit_vectors(embedding_of(embedding))
        same = [chosen for chosen in choices if chosen.embedding == embedding]
        for clustering in dict.fromkeys(map(_clustering, same)):
            cosines = dict.fromkeys(c.cosine for c in same if _clustering(c) == clustering)
            linkage = next(c.linkage for c in same if _clustering(c) == clustering)
            found[clustering] = meaning_entropies(
                types[clustering[2]], unit, linkage, tuple(cosines)
            )
    return found


@dataclass(frozen=True)
class TokenTypes:
    """The different activating tokens of every feature, by feature and then by token id."""

    token_ids: NDArray[np.int32]
    counts: NDArray[np.int32]
    """Examples with that token."""
    starts: NDArray[np.int64]
    """Where the tokens of each feature begin, and where the last end, [feature + 1]."""

    @classmethod
    def of(cls, examples: Examples) -> TokenTypes:
        """Count the activating tokens of examples."""
        keys = examples.features << 32 | examples.token_column("token_id").astype(np.int64)
        found, counts = np.unique(keys, return_counts=True)
        starts = np.searchsorted(found, np.arange(len(examples.counts) + 1) << 32)
        token_ids = (found & ((1 << 32) - 1)).astype(np.int32)
        return cls(token_ids, counts.astype(np.int32), starts)

    @property
    def number(self) -> NDArray[np.int64]:
        """Token types of each feature, [feature]."""
        number: NDArray[np.int64] = np.diff(self.starts)
        return number

    @property
    def features(self) -> NDArray[np.int64]:
        """Feature of each entry."""
        features: NDArray[np.int64] = np.repeat(np.arange(len(self.number)), self.number)
        return features

    def entropies(self) -> Reals:
        """H_token of each feature in nats, [feature]; NaN where there is no example."""
        return _entropies(self.features, self.counts, len(self.number))


def unit_vectors(embedding: Tensor) -> NDArray[np.float32]:
    """Return vectors of tokens [token, dimension] at unit length; those of zeros stay so.

    StudyError where a vector is not finite.
    """
    unit = np.empty(tuple(embedding.shape), np.float32)
    for start in range(0, len(embedding), _ROWS_AT_ONCE):
        rows = embedding[start : start + _ROWS_AT_ONCE].float()
        if not bool(rows.isfinite().all()):
            raise StudyError(
                "the embedding of tokens holds numbers that are not finite; set another "
                "`features.measures.embedding`"
            )
        unit[start : start + len(rows)] = torch.nn.functional.normalize(rows, dim=1).numpy()
    return unit


def meaning_entropies(
    types: TokenTypes, unit: NDArray[np.float32], linkage: Linkage, cosines: Sequence[float]
) -> dict[float, Reals]:
    """H_semantic of every feature, for several cuts of the same clusters.

    Args:
        types: activating tokens.
        unit: vectors of unit length [token, dimension].
        linkage: `single`, `average` or `complete`.
        cosines: clusters at least this similar are one meaning.

    Returns:
        By cosine, entropies in nats [feature]; NaN where a feature has no example.

    Raises:
        StudyError: an activating token has no vector.
    """
    largest = int(types.token_ids.max(initial=-1))
    if largest >= len(unit):
        raise StudyError(
            f"the embedding has vectors of {len(unit)} tokens, but token {largest} activates a "
            "feature; give one of the same tokenizer in `features.measures.embedding`"
        )
    cuts = _cuts(types, unit, linkage, [1 - cosine + _ROUNDING for cosine in cosines])
    features = types.features
    entropies = {}
    for cosine, clusters in zip(cosines, cuts, strict=True):
        # A feature has no more clusters than tokens, so they fit in the places of its tokens.
        counts = np.bincount(
            types.starts[features] + clusters, types.counts, minlength=len(features)
        )
        entropies[cosine] = _entropies(features, counts, len(types.number))
    return entropies


def monosemanticity(token_entropy: Reals, meaning_entropy: Reals) -> Reals:
    """1 - H_semantic / H_token [feature]; 1 for a single token type, NaN without example."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = 1 - meaning_entropy / token_entropy
    # Where nothing is joined, the two entropies are one sum in two orders.
    return np.where(token_entropy == 0, 1.0, ratio.clip(0, 1))


def _cuts(
    types: TokenTypes, unit: NDArray[np.float32], linkage: Linkage, distances: Sequence[float]
) -> NDArray[np.int32]:
    """Cluster of each token within its feature, from 0, for each cut: [cut, entry]."""
    # scipy takes a moment to import, and whoever trains an autoencoder needs none of it.
    from scipy.cluster import hierarchy

    clusters = np.zeros((len(distances), len(types.token_ids)), np.int32)
    several = np.flatnonzero(types.number > 1)
    for feature in progress(several, label=f"meanings, {linkage} linkage", unit="feature"):
        here = slice(types.starts[feature], types.starts[feature + 1])
        vectors = unit[types.token_ids[here]].astype(np.float64)
        apart = 1 - vectors @ vectors.T
        above = np.triu_indices(len(vectors), 1)
        tree = hierarchy.linkage(apart[above].clip(min=0), linkage)
        for cut, distance in enumerate(distances):
            clusters[cut, here] = hierarchy.fcluster(tree, distance, "distance") - 1
    return clusters


def _entropies(groups: NDArray[np.int64], counts: NDArray[Any], n_groups: int) -> Reals:
    """Entropy in nats of the counts of each group; NaN where a group has none."""
    groups, counts = groups[counts > 0], counts[counts > 0]
    totals = np.bincount(groups, counts, minlength=n_groups)
    shares = counts / totals[groups]
    entropies = np.bincount(groups, -shares * np.log(shares), minlength=n_groups)
    # -1 x log 1 is minus zero.
    return np.where(totals > 0, entropies + 0.0, np.nan)


@dataclass(frozen=True)
class Choices:
    """One value of everything that `sensitivity` may vary; the keys are the study's."""

    share: float
    threshold: float
    bilingual_share: float
    symbol_share: float
    examples: int
    by: LanguageBy
    linkage: Linkage
    cosine: float
    embedding: str

    @classmethod
    def of(cls, language: LanguageRule, meaning: MonosemanticityRule) -> Choices:
        """The study's own choices."""
        return cls(
            share=language.share,
            threshold=language.threshold,
            bilingual_share=language.bilingual_share,
            symbol_share=language.symbol_share,
            examples=language.examples,
            by=language.by,
            linkage=meaning.linkage,
            cosine=meaning.cosine,
            embedding=meaning.embedding,
        )


@dataclass(frozen=True)
class Alternative:
    """A row of `sensitivity.parquet`: which choice is another, its value, and all choices."""

    choice: str
    value: str
    choices: Choices


def alternatives(default: Choices, sensitivity: Sensitivity) -> tuple[Alternative, ...]:
    """The study's own choices, then each other value of one of them, in the order of the study."""
    return (Alternative(DEFAULT, DEFAULT, default), *_others(default, sensitivity))


def _others(default: Choices, sensitivity: Sensitivity) -> Iterator[Alternative]:
    for choice in type(sensitivity).model_fields:
        for value in getattr(sensitivity, choice):
            yield Alternative(choice, str(value), replace(default, **{choice: value}))


def sensitivity_table(
    alternatives: Sequence[Alternative],
    measured: Mapping[Choices, Measured],
    languages: Sequence[str],
) -> pl.DataFrame:
    """One row an alternative, the study's own choices first; columns as `sensitivity_schema`."""
    rows = [
        {"choice": alternative.choice, "value": alternative.value}
        | _summary(measured[alternative.choices], languages)
        for alternative in alternatives
    ]
    return pl.DataFrame(rows, schema=sensitivity_schema(languages))


def _summary(measured: Measured, languages: Sequence[str]) -> dict[str, Any]:
    names = label_names(languages)
    n_known = len(names) - len(WITHOUT_SHARE)
    known = measured.labels < n_known
    several = known & (measured.token_types > 1)
    counted = np.bincount(measured.labels, minlength=len(names)).tolist()
    values = measured.monosemanticity
    return {
        "features_by_label": dict(zip(names, counted, strict=True)),
        "labelled": int(known.sum()),
        "monosemanticity": _mean(values[known]),
        "monosemanticity_by_label": {
            name: _mean(values[measured.labels == number])
            for number, name in enumerate(names[:n_known])
        },
        "several_types": int(several.sum()),
        "monosemanticity_several_types": _mean(values[several]),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean of the values; None of no values."""
    return math.fsum(values) / len(values) if len(values) else None
