"""Labels and monosemanticity of all features under any choices, each part computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.alternatives import Choices
from glossogenesis.features.examples import Examples
from glossogenesis.features.language import (
    LanguageShares,
    label_features,
    language_shares,
    token_languages,
)
from glossogenesis.features.letters import lettered
from glossogenesis.features.monosemanticity import (
    TokenTypes,
    meaning_entropies,
    monosemanticity,
    unit_vectors,
)
from glossogenesis.study.features import LanguageBy

Reals = NDArray[np.float64]


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
        told = (sample, chosen.by)
        if told not in shares:
            languages = token_languages(chosen.by, samples[sample], corpus, scripts)
            shares[told] = language_shares(
                samples[sample], languages, letters[sample], len(corpus.languages), by=chosen.by
            )
        token_entropy = types[sample].entropies()
        meaning_entropy = entropies[_clustering(chosen)][chosen.cosine]
        measured[chosen] = Measured(
            labels=label_features(
                shares[told],
                firings,
                share=chosen.share,
                bilingual_share=chosen.bilingual_share,
                symbol_share=chosen.symbol_share,
            ),
            symbol_shares=shares[told].symbols,
            shares=shares[told].by_language,
            token_types=types[sample].number,
            token_entropy=token_entropy,
            meaning_entropy=meaning_entropy,
            monosemanticity=monosemanticity(token_entropy, meaning_entropy),
        )
    return measured


_Sample = tuple[float, int]
_Clustering = tuple[str, str, _Sample]


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
