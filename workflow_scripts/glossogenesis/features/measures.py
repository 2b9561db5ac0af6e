"""Labels and monosemanticity of all features under any choices, each part computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.config.features import LanguageBy
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.alternatives import Choices
from glossogenesis.features.examples import Examples
from glossogenesis.features.language import label_features, language_shares, token_languages
from glossogenesis.features.monosemanticity import (
    TokenTypes,
    meaning_entropies,
    monosemanticity,
    unit_vectors,
)

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What some choices make of the features; every array is [feature], or [feature, language]."""

    labels: NDArray[np.int64]
    """Numbers of `language.label_names`."""
    shares: Reals
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

    What several choices share, such as a clustering or the examples' languages, is computed once.

    Args:
        choices: what to compute.
        examples: by threshold.
        firings: tokens on which each feature fired [feature].
        corpus: where the examples are.
        scripts: script of each language.
        embedding_of: vectors of tokens [token, dimension] by the name of the embedding.
    """
    types = {threshold: TokenTypes.of(found) for threshold, found in examples.items()}
    entropies = _meaning_entropies(choices, types, embedding_of)
    shares: dict[tuple[float, LanguageBy], Reals] = {}
    measured: dict[Choices, Measured] = {}
    for chosen in choices:
        found = examples[chosen.threshold]
        told = (chosen.threshold, chosen.by)
        if told not in shares:
            languages = token_languages(chosen.by, found, corpus, scripts)
            shares[told] = language_shares(found, languages, len(corpus.languages))
        token_entropy = types[chosen.threshold].entropies()
        meaning_entropy = entropies[_clustering(chosen)][chosen.cosine]
        measured[chosen] = Measured(
            labels=label_features(
                shares[told],
                found.counts,
                firings,
                share=chosen.share,
                minimum_examples=chosen.minimum_examples,
            ),
            shares=shares[told],
            token_types=types[chosen.threshold].number,
            token_entropy=token_entropy,
            meaning_entropy=meaning_entropy,
            monosemanticity=monosemanticity(token_entropy, meaning_entropy),
        )
    return measured


_Clustering = tuple[str, str, float]


def _clustering(chosen: Choices) -> _Clustering:
    return chosen.embedding, chosen.linkage, chosen.threshold


def _meaning_entropies(
    choices: Sequence[Choices],
    types: Mapping[float, TokenTypes],
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
