"""The rows of `statistics.parquet`: what each feature does, and what it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.features.firing import FiringCounts
from glossogenesis.features.language import label_names
from glossogenesis.features.measures import Measured
from glossogenesis.features.schemas import TOP_TOKEN, statistics_schema
from glossogenesis.features.top_tokens import TokenCounts

TOP_TOKENS = 10
"""Tokens that are named of each feature."""


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
