"""Quality of an autoencoder on held-out activations, without the language model.

What is compared is what the autoencoder sees: activations divided by their L2 norm where it
normalises, else the residual stream as it is. The formulas stand in `sae.quality`.

Every measure is a function of sums, so that a stream of any length needs the same memory, and the
measures of a language and of all tokens come from one pass. With u the activation in the space that
the autoencoder sees, v its reconstruction, e = u - v, and s the norm that takes u back to the
residual stream (1 where the autoencoder does not normalise); E is the mean over tokens:

    l0                                   E |{i : z_i > 0}|
    mse                                  E |e|^2
    nmse                                 E (|e|^2 / |u|^2)
    explained_variance                   1 - E |e|^2 / (E |u|^2 - |E u|^2)
    explained_variance_centred           1 - (E |e|^2 - |E e|^2) / (E |u|^2 - |E u|^2)
    explained_variance_residual_stream   1 - E |s e|^2 / (E |s u|^2 - |E s u|^2)
    cosine                               E (<u, v> / (|u| |v|))
    l2_ratio                             E (|v| / |u|)
    reconstruction_bias                  E |v|^2 / E <u, v>

The first explained variance is SAELens' since it left the mean of per-token ratios; the centred one
leaves out a constant error, as dictionary_learning's `frac_variance_explained` does. A bias below 1
is shrinkage (gamma in Rajamanoharan et al. 2024, arXiv:2404.16014). Tokens whose activation is zero
have no ratios and no cosine, and are left out of those means; a cosine with a reconstruction of
zero is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import cosine_similarity

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.similarity import self_similarity
from glossogenesis.storage.activations.cache import ActivationRows

SPACES = {
    "l2": "what the autoencoder sees: activations divided by their L2 norm",
    "none": "what the autoencoder sees: the residual stream as it is",
}

DENSITY_EDGES = tuple(-8 + step / 4 for step in range(33))
"""Edges of the bins of log10 firing frequency; the last bin includes 0, every token."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

ROWS_AT_ONCE = 4096
"""Tokens that are compared at a time."""

EXPLAINED_VARIANCE_FORMULA = "1 - E|x - x_hat|^2 / (E|x|^2 - |E x|^2)"

_SUMS = (
    "tokens",
    "fired",
    "input_square",
    "error_square",
    "output_square",
    "product",
    "stream_input_square",
    "stream_error_square",
    "with_norm",
    "relative_error",
    "norm_ratio",
    "cosine",
)


@dataclass(frozen=True)
class Measures:
    """Quality over some tokens; None where a denominator is zero. Formulas: see the module."""

    tokens: int
    l0: float | None
    explained_variance: float | None
    explained_variance_centred: float | None
    explained_variance_residual_stream: float | None
    mse: float | None
    nmse: float | None
    cosine: float | None
    l2_ratio: float | None
    reconstruction_bias: float | None


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
        on_rows: called with how many tokens each step measured.

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


class QualitySums:
    """Sums of each group of tokens, for example of each language; the groups are numbered."""

    def __init__(self, groups: int, d_model: int, device: torch.device | str = "cpu") -> None:
        self._scalars = torch.zeros(groups, len(_SUMS), dtype=torch.float64, device=device)
        self._inputs = torch.zeros(groups, d_model, dtype=torch.float64, device=device)
        self._errors = torch.zeros_like(self._inputs)
        self._stream_inputs = torch.zeros_like(self._inputs)

    def add(self, u: Tensor, v: Tensor, scale: Tensor, fired: Tensor, groups: Tensor) -> None:
        """Add some tokens.

        Args:
            u: activations in the autoencoder's space [row, d_model].
            v: reconstructions in the same space [row, d_model].
            scale: what takes each back to the residual stream [row, 1].
            fired: number of latents that fired for each [row].
            groups: group of each, int64 [row].
        """
        u, v, scale = u.double(), v.double(), scale.double()
        error = u - v
        member = functional.one_hot(groups, len(self._scalars)).t().double()
        self._scalars += member @ _scalars_of(u, v, error, scale[:, 0], fired)
        self._inputs += member @ u
        self._errors += member @ error
        self._stream_inputs += member @ (u * scale)

    def of_group(self, group: int) -> Measures:
        """The measures of one group's tokens."""
        part = slice(group, group + 1)
        return self._measures(part)

    def of_all(self) -> Measures:
        """The measures of all tokens."""
        return self._measures(slice(None))

    def _measures(self, groups: slice) -> Measures:
        totals = self._scalars[groups].sum(dim=0).tolist()
        sums: dict[str, float] = dict(zip(_SUMS, totals, strict=True))
        tokens, with_norm = sums["tokens"], sums["with_norm"]

        def centred(square: float, vectors: Tensor) -> float:
            """Sum of squares about the mean, of a sum of squares and the sum of the vectors."""
            total = vectors[groups].sum(dim=0)
            about_origin: float = total.dot(total).item()
            return square - about_origin / max(tokens, 1.0)

        def explained(error: float, name: str, inputs: Tensor) -> float | None:
            square = sums[name]
            variance = centred(square, inputs)
            # Equal activations have no variance; what rounding leaves of it means nothing.
            return 1 - error / variance if variance > 1e-12 * square else None

        own, stream = ("input_square", self._inputs), ("stream_input_square", self._stream_inputs)
        return Measures(
            tokens=round(tokens),
            l0=_ratio(sums["fired"], tokens),
            explained_variance=explained(sums["error_square"], *own),
            explained_variance_centred=explained(centred(sums["error_square"], self._errors), *own),
            explained_variance_residual_stream=explained(sums["stream_error_square"], *stream),
            mse=_ratio(sums["error_square"], tokens),
            nmse=_ratio(sums["relative_error"], with_norm),
            cosine=_ratio(sums["cosine"], with_norm),
            l2_ratio=_ratio(sums["norm_ratio"], with_norm),
            reconstruction_bias=_ratio(sums["output_square"], sums["product"]),
        )


def _scalars_of(u: Tensor, v: Tensor, error: Tensor, scale: Tensor, fired: Tensor) -> Tensor:
    """What each token adds to the sums, in the order of `_SUMS`, float64 [row, sum]."""
    input_square = u.square().sum(dim=1)
    error_square = error.square().sum(dim=1)
    output_square = v.square().sum(dim=1)
    product = (u * v).sum(dim=1)
    with_norm = input_square > 0
    # Where there is no norm, what is divided by it is zeroed after.
    squared_norm = torch.where(with_norm, input_square, 1.0)
    both_norms = (squared_norm * output_square).sqrt()
    columns = {
        "tokens": torch.ones_like(product),
        "fired": fired.to(product),
        "input_square": input_square,
        "error_square": error_square,
        "output_square": output_square,
        "product": product,
        "stream_input_square": input_square * scale.square(),
        "stream_error_square": error_square * scale.square(),
        "with_norm": with_norm.to(product),
        "relative_error": (error_square / squared_norm) * with_norm,
        "norm_ratio": (output_square / squared_norm).sqrt() * with_norm,
        "cosine": torch.where(both_norms > 0, product / both_norms, 0.0) * with_norm,
    }
    return torch.stack([columns[name] for name in _SUMS], dim=1)


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
