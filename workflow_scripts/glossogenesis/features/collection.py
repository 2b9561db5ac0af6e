"""Features of one autoencoder, from held-out activations to the three tables that describe them.

One pass encodes the activations, counts, and spools what fires; one scan of the spool finds the
examples. Memory depends on the dictionary and the number of examples, not on the number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.alternatives import Choices, alternatives
from glossogenesis.features.examples import ExampleFinder, Examples
from glossogenesis.features.firing import FiringCounts, check_same_corpus, spool_firings
from glossogenesis.features.language import check_languages_can_be_told, token_languages
from glossogenesis.features.measures import measure_all
from glossogenesis.features.schemas import check_languages
from glossogenesis.features.sensitivity import sensitivity_table
from glossogenesis.features.spool import open_spool
from glossogenesis.features.statistics import statistics_table
from glossogenesis.features.surroundings import examples_in_parts
from glossogenesis.features.top_tokens import TokenCounts
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.study.features import LanguageRule, MonosemanticityRule, Sensitivity


@dataclass(frozen=True)
class FeatureRules:
    """What the study says about features."""

    language: LanguageRule
    monosemanticity: MonosemanticityRule
    sensitivity: Sensitivity
    scripts: Mapping[str, str]
    """Script of each language."""
    seed: int
    """Seed of the draw of examples."""


@dataclass(frozen=True)
class Firings:
    """What two passes over the held-out activations find."""

    counts: FiringCounts
    encoder_maximum: NDArray[np.float32]
    """Largest pre-activation of each feature [feature]."""
    token_counts: TokenCounts
    examples: Mapping[float, Examples]
    """By threshold."""
    bytes_a_latent: float
    """Bytes of the temporary file for each latent that fired."""


@dataclass(frozen=True)
class Features:
    """The tables of one autoencoder's features."""

    statistics: pl.DataFrame
    """Columns as `schemas.statistics_schema`."""
    sensitivity: pl.DataFrame
    """Columns as `schemas.sensitivity_schema`."""
    example_parts: Callable[[], Iterator[pl.DataFrame]]
    """Gives the rows of `schemas.EXAMPLES_SCHEMA`, a bounded number at a time."""
    firings: Firings


def collect_features(
    sae: SparseAutoencoder,
    cache: ActivationCache,
    corpus: TokenisedCorpus,
    rules: FeatureRules,
    embedding_of: Callable[[str], Tensor],
    *,
    scratch: Path,
) -> Features:
    """Describe every feature of an autoencoder.

    Args:
        sae: the autoencoder, on the device to compute on.
        cache: activations of its layer; the held-out ones are used.
        corpus: the corpus that they were taken from.
        rules: when a feature is of a language, and what a meaning is.
        embedding_of: vectors of tokens [token, dimension] by the name of the embedding.
        scratch: folder for temporary files of about 4 bytes a fired latent and 18 a token.

    Raises:
        StudyError: the rules cannot tell the corpus' languages, the corpus is not that of the
            activations, or the disk is full.
    """
    check_languages(corpus.languages)
    check_same_corpus(cache, corpus)
    wanted = alternatives(Choices.of(rules.language, rules.monosemanticity), rules.sensitivity)
    choices = tuple(dict.fromkeys(alternative.choices for alternative in wanted))
    for by in dict.fromkeys(chosen.by for chosen in choices):
        check_languages_can_be_told(by, corpus, rules.scripts)
    limits: dict[float, int] = {}
    for chosen in choices:
        limits[chosen.threshold] = max(limits.get(chosen.threshold, 0), chosen.examples)
    firings = collect_firings(
        sae, cache, rules.language.maximum, limits, seed=rules.seed, scratch=scratch
    )
    measured = measure_all(
        choices,
        firings.examples,
        firings.counts.total,
        corpus,
        rules.scripts,
        embedding_of,
    )
    examples = firings.examples[rules.language.threshold].drawn(rules.language.examples)
    statistics = statistics_table(
        firings.counts,
        firings.encoder_maximum,
        firings.token_counts,
        measured[choices[0]],
        examples.available,
        corpus.languages,
        corpus.vocabulary(),
    )
    languages = token_languages(rules.language.by, examples, corpus, rules.scripts)
    return Features(
        statistics=statistics,
        sensitivity=sensitivity_table(wanted, measured, corpus.languages),
        example_parts=lambda: examples_in_parts(examples, languages, corpus),
        firings=firings,
    )


def collect_firings(
    sae: SparseAutoencoder,
    cache: ActivationCache,
    maximum_of: Literal["fired", "encoder"],
    limits: Mapping[float, int],
    *,
    seed: int,
    scratch: Path,
) -> Firings:
    """Encode the held-out activations once, and scan what fired once for examples.

    Args:
        sae: the autoencoder.
        cache: activations of its layer.
        maximum_of: which maximum of a feature a threshold is of.
        limits: how many examples are drawn of each feature, by share of the maximum.
        seed: of the draw.
        scratch: folder for temporary files.

    Raises:
        StudyError: there is no held-out token, or the disk is full.
    """
    counts = FiringCounts(sae.n_latents, len(cache.languages))
    token_counts = TokenCounts(sae.n_latents)
    fixed = sae.k if sae.architecture == "topk" else None
    with open_spool(scratch, sae.n_latents, fixed) as spool:
        encoder_maximum = spool_firings(sae, cache, spool, counts, token_counts)
        maximum = counts.maximum if maximum_of == "fired" else encoder_maximum
        finders = {
            share: ExampleFinder(maximum, share, limit, seed) for share, limit in limits.items()
        }
        recount = not token_counts.exact
        with closing(
            progress(total=int(counts.tokens.sum()), label="examples", unit="token")
        ) as bar:
            for block in spool.blocks():
                for finder in finders.values():
                    finder.add(block)
                if recount:
                    token_counts.recount(block.latents, block.tokens["token_id"][block.rows])
                bar.update(len(block.tokens))
        return Firings(
            counts=counts,
            encoder_maximum=encoder_maximum,
            token_counts=token_counts,
            examples={share: finder.found() for share, finder in finders.items()},
            bytes_a_latent=spool.latent_bytes / max(1, spool.stored_latents),
        )
