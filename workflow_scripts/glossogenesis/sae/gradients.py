"""Gradients of a sparse autoencoder, written by hand: only latents that fired are touched.

With e = u_hat - u and the loss mean_t sum_d e^2, the gradient of the reconstruction is g = 2 e / B.
A latent i that fired for token t has the gradient <g_t, W_dec[i]>; from these follow

    dW_dec = Z^T g,   dW_enc = dZ^T (u - b_dec),   db_enc = sum_t dZ,
    db_dec = sum_t g - db_enc W_enc,

where Z and dZ hold k entries a token, so that both matrix gradients are products of a sparse matrix
and no batch x dictionary gradient exists. Summing over the batch before the last product saves a
dense one (Gao et al. 2024).

    e = u - u_hat,   e_hat = z_dead W_dec,   L_aux = mean_t sum_d (e - e_hat)^2,

where z_dead holds the largest dead latents of each token after ReLU, and e counts as fixed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from glossogenesis.sae.autoencoder import (
    DenseLatents,
    LargestOfRows,
    SelectedLatents,
    SparseAutoencoder,
    largest_positive,
)

GATHERED_VALUES = 67_108_864
"""Decoder entries that a GPU gathers at a time: 256 MB of float32."""

DENSE_BELOW = {"cpu": 4, "cuda": 32}
"""Latents of the dictionary for each that fires, under which plain products are faster than sparse
ones: measured on a processor, where sparse ones took 0.75 of the time at 8; on a GPU estimated from
memory bandwidth and float32 operations."""


@dataclass(frozen=True)
class Gradients:
    """Gradients of an autoencoder's weights, in buffers that are used again in every step."""

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor

    @classmethod
    def like(cls, sae: SparseAutoencoder) -> Gradients:
        """Return buffers for an autoencoder."""
        return cls(
            torch.zeros_like(sae.w_enc),
            torch.zeros_like(sae.b_enc),
            torch.zeros_like(sae.w_dec),
            torch.zeros_like(sae.b_dec),
        )

    def attach(self, sae: SparseAutoencoder) -> None:
        """Make the buffers the `grad` of the weights, which an optimizer reads."""
        sae.w_enc.grad, sae.b_enc.grad = self.w_enc, self.b_enc
        sae.w_dec.grad, sae.b_dec.grad = self.w_dec, self.b_dec


def decoded(selected: SelectedLatents, w_dec: Tensor) -> Tensor:
    """Return the sum of the selected latents' directions for every token, [row, d_model]."""
    return functional.embedding_bag(
        selected.latents,
        w_dec,
        selected.offsets,
        mode="sum",
        per_sample_weights=selected.values,
        include_last_offset=True,
    )


def add_sparse_gradients(
    sae: SparseAutoencoder,
    selected: SelectedLatents,
    reconstruction_gradient: Tensor,
    centred: Tensor,
    gradients: Gradients,
    *,
    first: bool,
) -> None:
    """Add what flows back through selected latents to all gradients but that of `b_dec`.

    Args:
        sae: the autoencoder.
        selected: its latents that reconstructed.
        reconstruction_gradient: of the loss by what they reconstructed, [row, d_model].
        centred: what the encoder multiplied, [row, d_model].
        gradients: what is added to.
        first: whether the buffers hold nothing yet and are overwritten.
    """
    by_latent = latent_gradients(selected, reconstruction_gradient, sae.w_dec)
    transposed = Transposed.of(selected, sae.n_latents)
    transposed.add_product(selected.values, reconstruction_gradient, gradients.w_dec, first)
    transposed.add_product(by_latent, centred, gradients.w_enc, first)
    if first:
        gradients.b_enc.zero_()
    gradients.b_enc.index_add_(0, selected.latents, by_latent)


def finish_decoder_bias(
    sae: SparseAutoencoder, reconstruction_gradient: Tensor, gradients: Gradients
) -> None:
    """Set the gradient of `b_dec`, once that of `b_enc` is complete."""
    torch.sum(reconstruction_gradient, 0, out=gradients.b_dec)
    gradients.b_dec.sub_(gradients.b_enc @ sae.w_enc)


def latent_gradients(
    selected: SelectedLatents, reconstruction_gradient: Tensor, w_dec: Tensor
) -> Tensor:
    """Return the gradient of every selected latent, [selected]; zero where it did not fire."""
    dots = _sampled_dots if w_dec.device.type == "cpu" else _gathered_dots
    return dots(selected, reconstruction_gradient, w_dec).mul_(selected.values > 0)


def _sampled_dots(selected: SelectedLatents, left: Tensor, w_dec: Tensor) -> Tensor:
    """Return <left[row], w_dec[latent]> of selected latents without gathering either."""
    places = _csr(
        selected.offsets,
        selected.latents,
        torch.zeros_like(selected.values),
        (len(left), len(w_dec)),
    )
    dots: Tensor = torch.sparse.sampled_addmm(places, left, w_dec.t(), beta=0.0).values()
    return dots


def _gathered_dots(selected: SelectedLatents, left: Tensor, w_dec: Tensor) -> Tensor:
    """Return <left[row], w_dec[latent]> of selected latents, some at a time."""
    found = torch.empty_like(selected.values)
    at_once = max(1, GATHERED_VALUES // w_dec.shape[1])
    for start in range(0, len(found), at_once):
        part = slice(start, start + at_once)
        directions = w_dec.index_select(0, selected.latents[part])
        directions.mul_(left.index_select(0, selected.rows[part]))
        torch.sum(directions, -1, out=found[part])
    return found


def _csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sparse matrix whose columns within a row stand in any order."""
    with warnings.catch_warnings():
        # The first CSR tensor of a process warns that the layout is in beta state.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)


@dataclass(frozen=True)
class Transposed:
    """The places of selected latents, sorted by latent: rows of a matrix [latent, token]."""

    order: Tensor
    starts: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, selected: SelectedLatents, n_latents: int) -> Transposed:
        """Sort selected latents; those of one latent stay in the order of tokens."""
        latents, order = selected.latents.sort(stable=True)
        counts = torch.bincount(latents, minlength=n_latents)
        return cls(order, functional.pad(counts.cumsum(0), (1, 0)), selected.rows[order])

    def add_product(self, values: Tensor, dense: Tensor, into: Tensor, overwrite: bool) -> None:
        """Add to `into` [latent, d_model] the product of the sparse matrix with `dense`.

        Args:
            values: entries of the matrix, in the order of the selected latents.
            dense: [token, d_model].
            into: what is added to.
            overwrite: whether it holds nothing of worth.
        """
        size = (len(into), len(dense))
        matrix = _csr(self.starts, self.tokens, values[self.order], size)
        torch.addmm(into, matrix, dense, beta=0.0 if overwrite else 1.0, out=into)


class DeadLatents:
    """Collects the largest dead latents of every token of a batch, chunk by chunk."""

    def __init__(self, dead: Tensor, k: int) -> None:
        """Collect `k` of the latents whose numbers are `dead`, or all where these are fewer."""
        self._dead = dead
        self._largest = LargestOfRows(min(k, len(dead)))

    def add(self, before: Tensor) -> None:
        """Look at the pre-activations [row, latent] of the next tokens."""
        self._largest.add(before.index_select(1, self._dead))

    def selected(self, dtype: torch.dtype) -> SelectedLatents:
        """Return what was collected, by number in the dictionary."""
        found = self._largest.selected(dtype)
        return SelectedLatents(found.rows, self._dead[found.latents], found.values, found.offsets)


def auxiliary_k(auxk: int, d_model: int) -> int:
    """Return how many dead latents reconstruct: `auxk`, at most half the width."""
    return max(1, min(auxk, d_model // 2))


def add_auxiliary_gradients(
    sae: SparseAutoencoder,
    selected: SelectedLatents,
    error: Tensor,
    centred: Tensor,
    gradients: Gradients,
    *,
    coefficient: float,
) -> Tensor:
    """Add the gradients of the auxiliary loss and return the loss, a scalar without coefficient.

    Args:
        sae: the autoencoder.
        selected: dead latents of the batch.
        error: reconstruction less activation of the main loss, [row, d_model].
        centred: what the encoder multiplied.
        gradients: what is added to; that of `b_dec` follows from that of `b_enc`.
        coefficient: weight of the auxiliary loss.
    """
    left = decoded(selected, sae.w_dec).add_(error)
    n_rows = len(error)
    loss = left.square().sum() / n_rows
    outward = left.mul_(2.0 * coefficient / n_rows)
    add_sparse_gradients(sae, selected, outward, centred, gradients, first=False)
    return loss


@dataclass(frozen=True)
class DenseStep:
    """What a dense step found."""

    error: Tensor
    """Reconstruction less activation, [row, d_model]."""
    fired: Tensor
    """Whether each latent fired for any token, bool [latent]."""
    count: Tensor
    """Firings of all tokens together, a scalar."""
    total: Tensor
    """Sum of all latents of all tokens, a scalar."""


def is_dense(sae: SparseAutoencoder) -> bool:
    """Return whether plain products are the faster way to train an autoencoder."""
    if sae.architecture == "relu":
        return True
    assert sae.k is not None
    few = sae.n_latents < DENSE_BELOW[sae.w_enc.device.type] * sae.k
    return sae.architecture == "topk" and few


def dense_step(
    sae: SparseAutoencoder,
    u: Tensor,
    centred: Tensor,
    dense: DenseLatents,
    gradients: Gradients,
    *,
    l1_coefficient: float,
    look: Callable[[Tensor], None],
) -> DenseStep:
    """Set all gradients but that of `b_dec`, and return what the step found.

    Args:
        sae: the autoencoder; `topk` or `relu`.
        u: activations in its space [row, d_model].
        centred: `u` less the decoder's bias.
        dense: forms the latents of some tokens at a time.
        gradients: what is set.
        l1_coefficient: weight of the sum of a token's latents in the loss.
        look: called with the pre-activations of every chunk, which it must not change.
    """
    n_rows = len(u)
    error = torch.empty_like(u)
    fired = torch.zeros(sae.n_latents, dtype=torch.bool, device=u.device)
    count = torch.zeros((), dtype=torch.int64, device=u.device)
    total = u.new_zeros(())
    for part in (gradients.w_enc, gradients.b_enc, gradients.w_dec):
        part.zero_()
    start = 0
    for before in dense.chunks(centred, sae.w_enc, sae.b_enc):
        look(before)
        here = slice(start, start + len(before))
        start = here.stop
        latents = _fire(sae, before).to(u.dtype)
        torch.addmm(sae.b_dec, latents, sae.w_dec, out=error[here])
        error[here].sub_(u[here])
        outward = error[here] * (2.0 / n_rows)
        active = latents > 0
        inward = (outward @ sae.w_dec.t()).add_(l1_coefficient / n_rows).mul_(active)
        gradients.w_dec.addmm_(latents.t(), outward)
        gradients.w_enc.addmm_(inward.t(), centred[here])
        gradients.b_enc.add_(inward.sum(0))
        fired |= active.any(0)
        count += active.sum()
        total += latents.sum()
    return DenseStep(error, fired, count, total)


def _fire(sae: SparseAutoencoder, before: Tensor) -> Tensor:
    """Return dense latents [row, latent] of pre-activations."""
    if sae.architecture == "relu":
        return before.clamp_min(0.0)
    assert sae.k is not None
    values, latents = largest_positive(before, sae.k)
    return torch.zeros_like(before).scatter_(1, latents, values)
