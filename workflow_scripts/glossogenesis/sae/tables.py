"""Tables of autoencoders: the cross-entropy that they recover, and what another seed finds.

    recovered = (CE_ablated - CE_spliced) / (CE_ablated - CE_clean)

with CE the mean over tokens: 1 where splicing changes nothing, 0 where it is no better than the
ablation. The ablation stands in the table's name for it: `recovered_zero` and `recovered_mean`;
`recovered` is the one that the study chose. Where an ablation hardly raises the cross-entropy, as
in a model at its first steps, the ratio means little and its interval is wide.

Latents that never fired are among those compared: their directions have hardly moved from where
they started, so many of them lower every number here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.similarity import match

if TYPE_CHECKING:
    from glossogenesis.sae.recovery import CrossEntropies

Ablation = Literal["zero", "mean"]
Floats = NDArray[np.float64]

ALL = "all"
"""Stands for the tokens of all languages together."""

CONFIDENCE = 0.95

RECOVERY_SCHEMA = pl.Schema(
    {
        "layer": pl.Int32,
        "language": pl.String,
        "contexts": pl.Int64,
        "tokens": pl.Int64,
        "ce_clean": pl.Float64,
        "ce_spliced": pl.Float64,
        "ce_zero": pl.Float64,
        "ce_mean": pl.Float64,
        "recovered_zero": pl.Float64,
        "recovered_mean": pl.Float64,
        "ablation": pl.String,
        "recovered": pl.Float64,
        "recovered_low": pl.Float64,
        "recovered_high": pl.Float64,
    }
)
"""Cross-entropies are in nats a token; `recovered` is null where the ablation changes nothing."""

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
class Resampling:
    """How intervals are made: contexts are drawn with replacement, within each language."""

    resamples: int
    seed: int


def recovery_table(
    measured: CrossEntropies, languages: Sequence[str], ablation: Ablation, resampling: Resampling
) -> pl.DataFrame:
    """One row per layer and language, and one for all tokens; columns: `RECOVERY_SCHEMA`."""
    language_of = measured.languages.numpy()
    tokens = measured.tokens.numpy()
    groups = {code: (language_of == number) for number, code in enumerate(languages)}
    groups[ALL] = np.ones(len(tokens), dtype=np.bool_)
    rows = []
    for layer, replaced in sorted(measured.replaced.items()):
        sums = {"clean": measured.clean.numpy()}
        sums |= {name: of_context.numpy() for name, of_context in replaced.items()}
        for language, member in groups.items():
            if not tokens[member].sum():
                continue
            part = {name: of_context[member] for name, of_context in sums.items()}
            interval = _interval(part, _draws(language_of[member], resampling), ablation)
            rows.append(
                {"layer": layer, "language": language, "ablation": ablation}
                | _row(part, tokens[member], ablation)
                | dict(zip(("recovered_low", "recovered_high"), interval, strict=True))
            )
    return pl.DataFrame(rows, RECOVERY_SCHEMA)


def _row(
    sums: Mapping[str, Floats], tokens: NDArray[np.int64], ablation: Ablation
) -> dict[str, Any]:
    """The estimates of one row from sums and tokens of its contexts."""
    total = int(tokens.sum())
    ce = {name: float(of_context.sum()) / total for name, of_context in sums.items()}
    by_ablation = {
        name: _recovered(ce[name], ce["spliced"], ce["clean"]) for name in ("zero", "mean")
    }
    return {
        "contexts": len(tokens),
        "tokens": total,
        **{f"ce_{name}": value for name, value in ce.items()},
        **{f"recovered_{name}": value for name, value in by_ablation.items()},
        "recovered": by_ablation[ablation],
    }


def _recovered(ablated: float, spliced: float, clean: float) -> float | None:
    return (ablated - spliced) / (ablated - clean) if ablated != clean else None


def _interval(
    sums: Mapping[str, Floats], draws: Floats | None, ablation: Ablation
) -> tuple[float | None, float | None]:
    """Percentile interval of `recovered` over resampled contexts.

    Numerator and denominator are of the same tokens, so their number cancels.
    """
    if draws is None:
        return None, None
    above = draws @ (sums[ablation] - sums["spliced"])
    below = draws @ (sums[ablation] - sums["clean"])
    if not below.all():
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(above / below, [tail, 1 - tail])
    return float(low), float(high)


def _draws(language_of: NDArray[np.int64], resampling: Resampling) -> Floats | None:
    """How often each context is drawn, [resample, context].

    Contexts of a language are drawn among each other, as the study chose how many of each to run.
    None where a language has a single one, which cannot vary.
    """
    if np.unique(language_of, return_counts=True)[1].min() < 2:
        return None
    generator = np.random.default_rng(resampling.seed)
    draws = np.zeros((resampling.resamples, len(language_of)))
    for language in np.unique(language_of):
        members = np.flatnonzero(language_of == language)
        even = np.full(len(members), 1 / len(members))
        draws[:, members] = generator.multinomial(len(members), even, size=resampling.resamples)
    return draws


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
    return pl.DataFrame([_pair_row(a, b) for a, b in combinations(dictionaries, 2)], SEEDS_SCHEMA)


def _pair_row(a: Dictionary, b: Dictionary) -> dict[str, str | int | float | None]:
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
