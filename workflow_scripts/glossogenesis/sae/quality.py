"""Quality of an autoencoder on held-out activations, without the language model.

What is compared is what the autoencoder sees: activations divided by their L2 norm where it
normalises, else the residual stream as it is. The formulas stand in `sae.quality_sums`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from glossogenesis.errors import StudyError
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.quality_sums import EXPLAINED_VARIANCE_FORMULA, Measures, QualitySums
from glossogenesis.sae.similarity import self_similarity
from glossogenesis.storage.activations.rows import ActivationRows

SPACES = {
    "l2": "what the autoencoder sees: activations divided by their L2 norm",
    "none": "what the autoencoder sees: the residual stream as it is",
}

DENSITY_EDGES = tuple(-8 + step / 4 for step in range(33))
"""Edges of the bins of log10 firing frequency; the last bin includes 0, every token."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

ROWS_AT_ONCE = 4096
"""Tokens that are compared at a time."""


@dataclass(frozen=True)
class Quality:
    """How well an autoencoder does on some tokens."""

    overall: Measures
    by_language: Mapping[str, Measures]
    """By the language of the token's document; languages without tokens are left out."""
    firings: Tensor
    """Tokens on which each latent fired, int64 [latent], on the CPU."""
    encoder_decoder_cosine: Tensor
    """Cosine of each latent's encoder and decoder direction, float32 [latent]."""
    decoder_self_similarity: Tensor
    """Greatest cosine of each latent's decoder direction with another's, float32 [latent]."""
    normalise: str

    @property
    def dead_share(self) -> float:
        """Share of the dictionary that fired on none of the tokens."""
        return float((self.firings == 0).double().mean())

    def to_json(self) -> dict[str, Any]:
        """What `quality.json` says, without its origin."""
        return {
            "space": SPACES[self.normalise],
            "explained_variance_formula": EXPLAINED_VARIANCE_FORMULA,
            "latents": len(self.firings),
            **asdict(self.overall),
            "dead_share": self.dead_share,
            "by_language": {code: asdict(part) for code, part in self.by_language.items()},
            "density": density(self.firings, self.overall.tokens),
            "encoder_decoder_cosine": distribution(self.encoder_decoder_cosine),
            "decoder_self_similarity": distribution(self.decoder_self_similarity),
        }


@torch.inference_mode()
def measure_quality(
    sae: SparseAutoencoder,
    shards: Iterable[ActivationRows],
    languages: Sequence[str],
    on_rows: Callable[[int], object] | None = None,
) -> Quality:
    """Measure in one pass over shards of held-out activations, on the autoencoder's device.

    Memory does not grow with the number of tokens.

    Args:
        sae: the autoencoder, trained.
        shards: activations with the language of each token, as the cache gives them.
        languages: codes that the rows' `languages` are indices of.
        on_rows: told how many tokens each step measured.

    Raises:
        StudyError: there are no tokens, or an activation is NaN or infinite.
    """
    device = sae.w_enc.device
    # The group after the last language is that of tokens without one.
    sums = QualitySums(len(languages) + 1, sae.d_model, device)
    firings = torch.zeros(sae.n_latents, dtype=torch.int64, device=device)
    for shard in shards:
        for start in range(0, len(shard), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            groups = shard.languages[rows].long().clamp_max(len(languages)).to(device)
            _add(sums, firings, sae, shard.activations[rows].to(device), groups)
            if on_rows is not None:
                on_rows(len(groups))
    overall = sums.of_all()
    if not overall.tokens:
        raise StudyError("no held-out activations to measure; raise the corpus' `held_out_tokens`")
    by_language = {code: sums.of_group(number) for number, code in enumerate(languages)}
    return Quality(
        overall=overall,
        by_language={code: part for code, part in by_language.items() if part.tokens},
        firings=firings.cpu(),
        encoder_decoder_cosine=cosine_similarity(sae.w_enc, sae.w_dec, dim=1).cpu(),
        decoder_self_similarity=self_similarity(sae.w_dec).cpu(),
        normalise=sae.normalise,
    )


def density(firings: Tensor, tokens: int) -> dict[str, Any]:
    """Histogram of log10 firing frequency, and how many latents never fired.

    Frequencies below the lowest edge count in the lowest bin.
    """
    fired = firings[firings > 0].double().numpy()
    logarithms = np.log10(fired / tokens).clip(DENSITY_EDGES[0], DENSITY_EDGES[-1])
    counts, _ = np.histogram(logarithms, bins=DENSITY_EDGES)
    return {
        "log10_edges": list(DENSITY_EDGES),
        "latents": counts.tolist(),
        "never": int((firings == 0).sum()),
    }


def distribution(values: Tensor) -> dict[str, Any]:
    """Mean, ends and quantiles of values [latent]."""
    values = values.double()
    return {
        "mean": float(values.mean()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "quantiles": {
            f"{share:g}": float(value)
            for share, value in zip(
                QUANTILES, np.quantile(values.numpy(), QUANTILES).tolist(), strict=True
            )
        },
    }


def _add(
    sums: QualitySums, firings: Tensor, sae: SparseAutoencoder, x: Tensor, groups: Tensor
) -> None:
    """Add some tokens `x` [row, d_model] to the sums and to the counts of firings."""
    if not bool(x.isfinite().all()):
        raise StudyError(
            "a held-out activation is NaN or infinite; extract again with "
            "`features.activations.not_finite: drop`"
        )
    u, scale = sae.to_sae_space(x)
    fired = sae.fired(u)
    count = torch.bincount(fired.rows, minlength=len(u))
    sums.add(u, sae.decode(fired), scale, count, groups)
    firings += torch.bincount(fired.latents, minlength=len(firings))
