"""Table of the cross-entropy that autoencoders recover, with intervals over contexts.

    recovered = (CE_ablated - CE_spliced) / (CE_ablated - CE_clean)

with CE the mean over tokens: 1 where splicing changes nothing, 0 where it is no better than the
ablation. The ablation stands in the table's name for it: `recovered_zero` and `recovered_mean`;
`recovered` is the one that the study chose. Where an ablation hardly raises the cross-entropy, as
in a model at its first steps, the ratio means little and its interval is wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: contexts are drawn with replacement, within each language."""

    resamples: int
    seed: int


def recovery_table(
    measured: CrossEntropies, languages: Sequence[str], ablation: Ablation, resampling: Resampling
) -> pl.DataFrame:
    """One row a layer and language, and one for all tokens; columns: `RECOVERY_SCHEMA`."""
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
