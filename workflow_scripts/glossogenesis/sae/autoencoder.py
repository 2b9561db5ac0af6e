"""A sparse autoencoder of one layer's residual stream: which latents fire, and what they say.

    z = fire(W_enc (u - b_dec) + b_enc),    u_hat = z W_dec + b_dec,

where u is the activation in the space that the autoencoder sees: divided by its L2 norm where
`normalise` is `l2`. `fire` keeps the k largest positive latents of each token (`topk`; Gao et al.
2024), those above a threshold that training estimated (`batchtopk`; Bussmann et al. 2024), or all
positive ones (`relu`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from glossogenesis.exceptions import StudyError

Architecture = Literal["topk", "batchtopk", "relu"]
Normalise = Literal["l2", "none"]

Precision = Literal["float32", "bfloat16"]

CHUNK_VALUES = 16_777_216
"""Dense latents that exist at a time: 64 MB of float32. With fewer tokens in a chunk the encoder's
product slows down, since it packs the weights again for each."""


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


class DenseLatents:
    """Forms dense latents in one buffer that every chunk, batch and autoencoder uses again."""

    def __init__(self, precision: Precision = "float32") -> None:
        self._precision = precision
        self._buffer: Tensor | None = None

    def chunks(
        self, centred: Tensor, w_enc: Tensor, b_enc: Tensor, *, rows_at_once: int | None = None
    ) -> Iterator[Tensor]:
        """Yield `centred @ w_enc.T + b_enc` for successive tokens, [row, latent].

        A chunk is overwritten by the next. With precision `bfloat16` product and bias are rounded
        to that type, as under autocast.

        Args:
            centred: activations less the decoder's bias [row, d_model].
            w_enc: encoder [latent, d_model].
            b_enc: its bias [latent].
            rows_at_once: tokens in a chunk; by default as many as fit 64 megabytes.
        """
        if self._precision == "bfloat16":
            centred, w_enc, b_enc = (part.bfloat16() for part in (centred, w_enc, b_enc))
        step = min(rows_at_once or rows_in_chunk(len(w_enc)), max(1, len(centred)))
        buffer = self._buffer_like(centred, step, len(w_enc))
        for part in centred.split(step):
            yield torch.addmm(b_enc, part, w_enc.t(), out=buffer[: len(part)])

    def _buffer_like(self, like: Tensor, rows: int, n_latents: int) -> Tensor:
        held = self._buffer
        if (
            held is None
            or held.shape[1] != n_latents
            or held.shape[0] < rows
            or held.dtype != like.dtype
            or held.device != like.device
        ):
            held = like.new_empty(rows, n_latents)
            self._buffer = held
        return held


@dataclass(frozen=True)
class SelectedLatents:
    """Latents that training looks at, in coordinate form; a value of zero stands for no latent."""

    rows: Tensor
    """Token of each, int64 [selected], ascending."""
    latents: Tensor
    """Number of each in the dictionary, int64 [selected]."""
    values: Tensor
    """Activation of each, not negative [selected]."""
    offsets: Tensor
    """Where those of each token begin, and where the last end, int64 [row + 1]."""


def rows_in_chunk(n_latents: int) -> int:
    """Return how many tokens' dense latents to form at a time."""
    return max(1, CHUNK_VALUES // n_latents)


def largest_positive(before: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest latents of each row after ReLU, and their numbers.

    Args:
        before: pre-activations [row, latent].
        k: how many.

    Returns:
        values [row, k], zero where fewer than k are positive, and latents int64 [row, k].
    """
    values, latents = torch.topk(before, k, dim=-1, sorted=False)
    return values.clamp_min_(0.0), latents


class LargestOfRows:
    """Collects the k largest positive latents of every token, chunk by chunk."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, before: Tensor) -> None:
        """Look at the pre-activations [row, latent] of the next tokens."""
        self._parts.append(largest_positive(before, self._k))

    def selected(self, dtype: torch.dtype) -> SelectedLatents:
        """Return what was collected, k entries a token, with values in `dtype`."""
        values = torch.cat([part[0] for part in self._parts])
        latents = torch.cat([part[1] for part in self._parts])
        n_rows, k = values.shape
        rows = torch.arange(n_rows, device=values.device)
        return SelectedLatents(
            rows=rows.repeat_interleave(k),
            latents=latents.flatten(),
            values=values.flatten().to(dtype),
            offsets=torch.arange(0, n_rows * k + 1, k, device=values.device),
        )


class LargestOfBatch:
    """Collects the `wanted` largest positive latents of a whole batch, chunk by chunk.

    Only latents above a bound are collected. Where the bound was too high (`too_few`), the batch
    must be looked at again with a lower one, so what is selected does not depend on the bound.
    """

    def __init__(self, wanted: int, bound: float) -> None:
        self._wanted = wanted
        self.bound = max(bound, 0.0)
        self._n_rows = 0
        self._rows: list[Tensor] = []
        self._latents: list[Tensor] = []
        self._values: list[Tensor] = []

    @property
    def too_few(self) -> bool:
        """Whether a lower bound could have selected more."""
        return self.bound > 0 and sum(len(part) for part in self._values) < self._wanted

    def add(self, before: Tensor) -> None:
        """Look at the pre-activations [row, latent] of the next tokens."""
        rows, latents = (before > self.bound).nonzero(as_tuple=True)
        self._rows.append(rows + self._n_rows)
        self._latents.append(latents)
        self._values.append(before[rows, latents])
        self._n_rows += len(before)
        if sum(len(part) for part in self._values) > 4 * self._wanted:
            self._keep_largest()

    def selected(self, dtype: torch.dtype) -> SelectedLatents:
        """Return the largest, in order of rows, with values in `dtype`."""
        self._keep_largest()
        counts = torch.bincount(self._rows[0], minlength=self._n_rows)
        return SelectedLatents(
            rows=self._rows[0],
            latents=self._latents[0],
            values=self._values[0].to(dtype),
            offsets=torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
        )

    def _keep_largest(self) -> None:
        """Drop what cannot be among the largest; of equal values the first in order stay."""
        rows, latents, values = (
            torch.cat(parts) for parts in (self._rows, self._latents, self._values)
        )
        if len(values) > self._wanted:
            least = values.kthvalue(len(values) - self._wanted + 1).values
            above = values > least
            ties = (values == least).nonzero().flatten()
            above[ties[: self._wanted - int(above.sum())]] = True
            rows, latents, values = rows[above], latents[above], values[above]
        self._rows, self._latents, self._values = [rows], [latents], [values]


def first_bound(before: Tensor, k: int) -> float:
    """Return a bound that about twice `k` latents a token exceed, from some tokens' latents."""
    twice = min(2 * k, before.shape[1])
    return float(torch.topk(before[:256], twice, dim=-1).values[:, -1].min())
