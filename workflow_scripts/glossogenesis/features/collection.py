"""Features of one autoencoder, from held-out activations to the tables that describe them.

One pass encodes the activations, counts, and spools what fires; one scan of the spool finds the
examples. Memory depends on the dictionary and the number of examples, not on the number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.examples import ExampleFinder, Examples, examples_in_parts
from glossogenesis.features.firing import FiringCounts, TokenCounts, open_spool, spool_firings
from glossogenesis.features.language import (
    check_languages_are_distinct,
    label_names,
    token_languages,
)
from glossogenesis.features.measures import (
    Choices,
    Measured,
    alternatives,
    measure_all,
    sensitivity_table,
)
from glossogenesis.features.schemas import TOP_TOKEN, check_languages, statistics_schema
from glossogenesis.models.activation_order import check_same_corpus
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.files import sealed_path
from glossogenesis.storage.provenance import Provenance, sealed_metadata
from glossogenesis.study.features import LanguageRule, MonosemanticityRule, Sensitivity

TOP_TOKENS = 10
"""Tokens that are named of each feature."""


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
        check_languages_are_distinct(by, corpus, rules.scripts)
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


def statistics_table(
    counts: FiringCounts,
    encoder_maximum: NDArray[np.float32],
    token_counts: TokenCounts,
    measured: Measured,
    examples: NDArray[np.int64],
    languages: Sequence[str],
    vocabulary: Sequence[str],
) -> pl.DataFrame:
    """Put the statistics of all features together; `statistics_schema` says what they are.

    Args:
        counts: of the first pass.
        encoder_maximum: largest pre-activation of each feature [feature].
        token_counts: how often each fired on which token.
        measured: labels and monosemanticity.
        examples: number of examples that each has [feature].
        languages: of the corpus.
        vocabulary: text of each token.
    """
    schema = statistics_schema(languages)
    firings = counts.total
    fired = firings > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = counts.sums / firings
        by_language = counts.firings / counts.tokens[:, None]
    names = np.array(label_names(languages))
    columns = {
        "feature": np.arange(len(firings)),
        "firings": firings,
        "firing_frequency": firings / counts.tokens.sum(),
        "maximum": np.where(fired, counts.maximum, np.nan),
        "mean": np.where(fired, mean, np.nan),
        "encoder_maximum": encoder_maximum,
        "firing_by_language": _by_language(by_language.T, languages),
        "examples": examples,
        "symbol_share": measured.symbol_shares,
        "share_by_language": _by_language(measured.shares, languages),
        "language": pl.Series(names[measured.labels].tolist(), dtype=pl.String),
        "token_types": measured.token_types,
        "token_entropy": measured.token_entropy,
        "meaning_entropy": measured.meaning_entropy,
        "monosemanticity": measured.monosemanticity,
        "top_tokens": _top_tokens(token_counts, len(firings), vocabulary),
    }
    table = pl.DataFrame(columns).cast(schema)
    return table.with_columns(pl.selectors.float().fill_nan(None))


def _by_language(values: NDArray[np.float64], languages: Sequence[str]) -> pl.Series:
    """Values [feature, language] as structs with a field a language, null where NaN."""
    fields = [
        pl.Series(code, np.ascontiguousarray(values[:, index]), dtype=pl.Float64).fill_nan(None)
        for index, code in enumerate(languages)
    ]
    return pl.DataFrame(fields).to_struct()


def _top_tokens(token_counts: TokenCounts, n_features: int, vocabulary: Sequence[str]) -> pl.Series:
    """The most frequent tokens of each feature, as lists of structs."""
    features, token_ids, found = token_counts.most_frequent(TOP_TOKENS)
    entries = pl.DataFrame(
        {
            "token_id": token_ids,
            "text": [vocabulary[token] for token in token_ids.tolist()],
            "count": found,
        }
    ).cast({"token_id": pl.Int32, "text": pl.String})
    lists = (
        pl.DataFrame({"feature": features, "token": entries.to_struct()})
        .group_by("feature", maintain_order=True)
        .agg("token")
    )
    every = pl.DataFrame({"feature": np.arange(n_features)})
    joined = every.join(lists, on="feature", how="left", maintain_order="left")["token"]
    return joined.cast(pl.List(TOP_TOKEN)).fill_null([])


def write_examples(path: Path, parts: Iterable[pl.DataFrame], provenance: Provenance) -> None:
    """Write frames of equal columns, at least one, as one Parquet file: all or nothing.

    Each frame becomes a row group; provenance and seal stand in the file's key-value
    metadata.
    """
    waiting = iter(parts)
    first = next(waiting).to_arrow(compat_level=pl.CompatLevel.oldest())
    metadata = {**(first.schema.metadata or {}), **sealed_metadata(provenance)}
    with sealed_path(path) as temporary:
        schema = first.schema.with_metadata(metadata)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            writer.write_table(first.cast(schema))
            for part in waiting:
                writer.write_table(part.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema))
