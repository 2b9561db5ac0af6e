"""The same feature at two checkpoints: alive latents matched by the cosine of their decoders.

The matching is one to one and has the largest sum of cosines. A pair that is less similar than a
minimum is not one feature: the earlier latent dies and the later one is born, as do those that have
no partner.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.features.schemas import alive_features
from glossogenesis.sae.similarity import Matching, match

MATCHES_SCHEMA = pl.Schema(
    {
        "feature": pl.Int32,
        "earlier_feature": pl.Int32,
        "cosine": pl.Float32,
        "language": pl.String,
        "earlier_language": pl.String,
        "event": pl.String,
        "label_changed": pl.Boolean,
    }
)


@dataclass(frozen=True)
class Dictionary:
    """The alive latents of an autoencoder at one checkpoint."""

    features: NDArray[np.int32]
    """Their numbers [alive], ascending."""
    directions: Tensor
    """Their rows of the decoder [alive, d_model]."""
    languages: pl.Series
    """Their labels [alive]."""

    @classmethod
    def of(cls, decoder: Tensor, statistics: pl.DataFrame, path: Path) -> Dictionary:
        """Keep the latents that fire, by the `statistics` (read from `path`) of the autoencoder.

        Raises:
            StudyError: the statistics are of another autoencoder.
        """
        alive = alive_features(statistics, len(decoder), path)
        features = alive["feature"].to_numpy().astype(np.int32)
        return cls(features, decoder[torch.from_numpy(features).long()], alive["language"])


@dataclass(frozen=True)
class Tracked:
    """Features of two checkpoints, matched."""

    matches: pl.DataFrame
    """Rows of `MATCHES_SCHEMA`: features of the later one in order, then earlier ones that died."""
    facts: dict[str, float | int | None]
    """How alike the alive latents are: `mmcs_to_earlier` (mean greatest cosine of a later latent
    with an earlier one), `mmcs_to_later`, and `matched_cosine`, the mean over all matched pairs,
    also those below the minimum; None where a side has no alive latent. And their numbers."""


def track_features(later: Dictionary, earlier: Dictionary, minimum_cosine: float) -> Tracked:
    """Match the alive latents of two checkpoints one to one.

    Raises:
        StudyError: the autoencoders are of different widths.
    """
    widths = later.directions.shape[1], earlier.directions.shape[1]
    if widths[0] != widths[1]:
        raise StudyError(
            f"an autoencoder of width {widths[0]} cannot be matched with one of width {widths[1]}; "
            "match checkpoints of one model"
        )
    facts: dict[str, float | int | None] = {
        "alive": len(later.features),
        "alive_earlier": len(earlier.features),
        "mmcs_to_earlier": None,
        "mmcs_to_later": None,
        "matched_cosine": None,
    }
    if len(later.features) == 0 or len(earlier.features) == 0:
        return Tracked(_rows(later, earlier, None, minimum_cosine), facts)
    matching = match(later.directions, earlier.directions)
    facts |= {
        "mmcs_to_earlier": matching.mmcs,
        "mmcs_to_later": matching.mmcs_back,
        "matched_cosine": matching.mean,
    }
    return Tracked(_rows(later, earlier, matching, minimum_cosine), facts)


def _rows(
    later: Dictionary, earlier: Dictionary, matching: Matching | None, minimum_cosine: float
) -> pl.DataFrame:
    pairs = pl.DataFrame(
        schema={name: MATCHES_SCHEMA[name] for name in ("feature", "earlier_feature", "cosine")}
    )
    if matching is not None:
        similar = matching.cosines >= minimum_cosine
        pairs = pl.DataFrame(
            {
                "feature": later.features[matching.first[similar]],
                "earlier_feature": earlier.features[matching.second[similar]],
                "cosine": matching.cosines[similar],
            }
        )
    now = pl.DataFrame({"feature": later.features, "language": later.languages})
    before = pl.DataFrame(
        {"earlier_feature": earlier.features, "earlier_language": earlier.languages}
    )
    event = (
        pl.when(pl.col("earlier_feature").is_null())
        .then(pl.lit("birth"))
        .when(pl.col("feature").is_null())
        .then(pl.lit("death"))
        .otherwise(pl.lit("kept"))
    )
    return (
        now.join(pairs, on="feature", how="left")
        .join(before, on="earlier_feature", how="full", coalesce=True)
        .sort("feature", "earlier_feature", nulls_last=True)
        .with_columns(event=event, label_changed=pl.col("language") != pl.col("earlier_language"))
        .select(pl.col(name).cast(dtype) for name, dtype in MATCHES_SCHEMA.items())
    )
