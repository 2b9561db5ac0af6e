"""Gradients of a sparse autoencoder, written by hand: only latents that fired are touched.

With e = u_hat - u and the loss mean_t sum_d e^2, the gradient of the reconstruction is g = 2 e / B.
A latent i that fired for token t has the gradient <g_t, W_dec[i]>; from these follow

    dW_dec = Z^T g,   dW_enc = dZ^T (u - b_dec),   db_enc = sum_t dZ,
    db_dec = sum_t g - db_enc W_enc,

where Z and dZ hold k entries a token, so that both matrix gradients are products of a sparse matrix
and no batch x dictionary gradient exists. Summing over the batch before the last product saves a
dense one (Gao et al. 2024).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.selection import SelectedLatents

GATHERED_VALUES = 67_108_864
"""Decoder entries that a GPU gathers at a time: 256 MB of float32."""


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
