"""A sparse autoencoder of one layer's residual stream: which latents fire, and what they say.

    z = fire(W_enc (u - b_dec) + b_enc),    u_hat = z W_dec + b_dec,

where u is the activation in the space that the autoencoder sees: divided by its L2 norm where
`normalise` is `l2`. `fire` keeps the k largest positive latents of each token (`topk`; Gao et al.
2024), those above a threshold that training estimated (`batchtopk`; Bussmann et al. 2024), or all
positive ones (`relu`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from glossogenesis.errors import StudyError
from glossogenesis.sae.encoder import DenseLatents
from glossogenesis.sae.selection import largest_positive, rows_in_chunk

Architecture = Literal["topk", "batchtopk", "relu"]
Normalise = Literal["l2", "none"]


@dataclass(frozen=True)
class FiredLatents:
    """Latents that fired for a run of tokens, in coordinate form."""

    rows: Tensor
    """Token of each, int64 [fired], ascending."""
    latents: Tensor
    """Number of each in the dictionary, int64 [fired]."""
    values: Tensor
    """Activation of each, positive, float32 [fired]."""
    n_rows: int
    """Tokens, also those for which nothing fired."""

    def offsets(self) -> Tensor:
        """Where the latents of each token begin, and where the last ends: int64 [n_rows + 1]."""
        counts = torch.bincount(self.rows, minlength=self.n_rows)
        return functional.pad(counts.cumsum(0), (1, 0))


class SparseAutoencoder(nn.Module):
    """A sparse autoencoder in float32; its gradients are written by hand, so it tracks none.

    Attributes:
        w_enc: encoder [n_latents, d_model].
        b_enc: bias of the latents [n_latents].
        w_dec: directions of the latents, rows of unit norm [n_latents, d_model].
        b_dec: what the encoder subtracts and the decoder adds [d_model].
        threshold: what a latent of a trained `batchtopk` must exceed to fire; None elsewhere.
    """

    def __init__(
        self,
        d_model: int,
        n_latents: int,
        architecture: Architecture,
        *,
        k: int | None = None,
        normalise: Normalise = "l2",
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        if architecture != "relu" and k is None:
            raise StudyError(f"an autoencoder of architecture {architecture!r} needs `k`")
        if k is not None and k > n_latents:
            raise StudyError(
                f"k is {k}, larger than the dictionary of {n_latents} latents; lower `k` or raise "
                "`latents` or `expansion`"
            )
        self.d_model = d_model
        self.n_latents = n_latents
        self.architecture: Architecture = architecture
        self.k = k
        self.normalise: Normalise = normalise
        self.threshold = threshold
        self.w_enc = _untracked(n_latents, d_model)
        self.b_enc = _untracked(n_latents)
        self.w_dec = _untracked(n_latents, d_model)
        self.b_dec = _untracked(d_model)

    def to_sae_space(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the autoencoder sees of activations, and what undoes the change.

        Args:
            x: residual stream [row, d_model], any float dtype.

        Returns:
            float32 [row, d_model] and float32 [row, 1]: the norm of each row, or ones. Rows of
            zeros stay zeros.
        """
        return to_sae_space(x, self.normalise)

    def preactivations(self, u: Tensor) -> Tensor:
        """Return W_enc (u - b_dec) + b_enc, [row, n_latents], of `u` [row, d_model]."""
        return torch.addmm(self.b_enc, u - self.b_dec, self.w_enc.t())

    def fired(self, u: Tensor, *, rows_at_once: int | None = None) -> FiredLatents:
        """Return the latents that fire for tokens, as after training.

        The dense latents of at most `rows_at_once` tokens exist at a time; by default as many as
        fit 64 megabytes.

        Args:
            u: activations in the space of the autoencoder, float32 [row, d_model].
            rows_at_once: tokens in a chunk.

        Raises:
            StudyError: a `batchtopk` without threshold.
        """
        step = rows_at_once or rows_in_chunk(self.n_latents)
        chunks = DenseLatents().chunks(u - self.b_dec, self.w_enc, self.b_enc, rows_at_once=step)
        parts = [self._fired_in(before) for before in chunks]
        return FiredLatents(
            rows=torch.cat([part.rows + number * step for number, part in enumerate(parts)]),
            latents=torch.cat([part.latents for part in parts]),
            values=torch.cat([part.values for part in parts]),
            n_rows=len(u),
        )

    def decode(self, fired: FiredLatents) -> Tensor:
        """Return the reconstruction [row, d_model] in the space of the autoencoder."""
        return decode(fired, self.w_dec) + self.b_dec

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstruction of residual streams [row, d_model], in their own scale."""
        u, scale = self.to_sae_space(x)
        return self.decode(self.fired(u)) * scale

    def _fired_in(self, before: Tensor) -> FiredLatents:
        if self.architecture == "topk":
            assert self.k is not None
            values, latents = largest_positive(before, self.k)
            rows, columns = (values > 0).nonzero(as_tuple=True)
            return FiredLatents(rows, latents[rows, columns], values[rows, columns], len(before))
        rows, latents = (before > self._least()).nonzero(as_tuple=True)
        return FiredLatents(rows, latents, before[rows, latents], len(before))

    def _least(self) -> float:
        """What a latent must exceed to fire, other than with `topk`."""
        if self.architecture == "relu":
            return 0.0
        if self.threshold is None:
            raise StudyError("a `batchtopk` autoencoder without threshold cannot be used; train it")
        return max(self.threshold, 0.0)


def to_sae_space(x: Tensor, normalise: Normalise) -> tuple[Tensor, Tensor]:
    """Return `x` [row, d_model] as an autoencoder sees it, float32, and its scale [row, 1]."""
    x = x.float()
    if normalise == "none":
        return x, x.new_ones(len(x), 1)
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norms.clamp_min(torch.finfo(torch.float32).tiny), norms


def decode(fired: FiredLatents, w_dec: Tensor) -> Tensor:
    """Return the sum of fired latents' directions for every token, [row, d_model], no bias."""
    return functional.embedding_bag(
        fired.latents,
        w_dec,
        fired.offsets(),
        mode="sum",
        per_sample_weights=fired.values.to(w_dec.dtype),
        include_last_offset=True,
    )


def _untracked(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape), requires_grad=False)
