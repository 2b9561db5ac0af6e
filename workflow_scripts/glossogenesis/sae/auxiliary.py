"""The auxiliary loss (AuxK) of Gao et al. 2024: dead latents reconstruct what is left.

    e = u - u_hat,   e_hat = z_dead W_dec,   L_aux = mean_t sum_d (e - e_hat)^2,

where z_dead holds the largest dead latents of each token after ReLU, and e counts as fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.gradients import Gradients, add_sparse_gradients, decoded
from glossogenesis.sae.selection import LargestOfRows, SelectedLatents


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
