"""Whether training again with another seed finds the same features.

Latents that never fired are among those compared: their directions have hardly moved from where
they started, so many of them lower every number here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl
import torch
from torch import Tensor

from glossogenesis.errors import StudyError
from glossogenesis.sae.similarity import match

SEEDS_SCHEMA = pl.Schema(
    {
        "sae_a": pl.String,
        "sae_b": pl.String,
        "seed_a": pl.Int64,
        "seed_b": pl.Int64,
        "latents_a": pl.Int64,
        "latents_b": pl.Int64,
        "mmcs_ab": pl.Float64,
        "mmcs_ba": pl.Float64,
        "matched_cosine": pl.Float64,
        "mmcs_ab_chance": pl.Float64,
        "mmcs_ba_chance": pl.Float64,
        "matched_cosine_chance": pl.Float64,
    }
)
"""`mmcs_ab`: mean over the latents of `sae_a` of the greatest cosine with one of `sae_b`; `chance`:
the same number where the coordinates of `sae_b` are put in another order."""


@dataclass(frozen=True)
class Dictionary:
    """The decoder of one autoencoder."""

    name: str
    seed: int | None
    directions: Tensor
    """`[latent, d_model]`"""


def compare_dictionaries(dictionaries: Sequence[Dictionary]) -> pl.DataFrame:
    """Compare every pair, in the order given; columns: `SEEDS_SCHEMA`.

    StudyError where there are fewer than two, or their widths differ.
    """
    if len(dictionaries) < 2:
        raise StudyError("one autoencoder has nothing to be compared with; add a seed to `seeds`")
    widths = {dictionary.directions.shape[1] for dictionary in dictionaries}
    if len(widths) > 1:
        raise StudyError(
            f"autoencoders of widths {', '.join(map(str, sorted(widths)))} cannot be compared; "
            "give those of one model"
        )
    return pl.DataFrame([_row(a, b) for a, b in combinations(dictionaries, 2)], SEEDS_SCHEMA)


def _row(a: Dictionary, b: Dictionary) -> dict[str, str | int | float | None]:
    # Permuting coordinates keeps how the latents of b relate to each other, and takes away what
    # they share with those of a.
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(b.directions.shape[1], generator=generator)
    found = match(a.directions, b.directions)
    chance = match(a.directions, b.directions[:, order])
    return {
        "sae_a": a.name,
        "sae_b": b.name,
        "seed_a": a.seed,
        "seed_b": b.seed,
        "latents_a": len(a.directions),
        "latents_b": len(b.directions),
        "mmcs_ab": found.mmcs,
        "mmcs_ba": found.mmcs_back,
        "matched_cosine": found.mean,
        "mmcs_ab_chance": chance.mmcs,
        "mmcs_ba_chance": chance.mmcs_back,
        "matched_cosine_chance": chance.mean,
    }
