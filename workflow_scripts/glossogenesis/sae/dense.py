"""The step of an autoencoder whose latents are many to fire: plain products, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.encoder import DenseLatents
from glossogenesis.sae.gradients import Gradients
from glossogenesis.sae.selection import largest_positive

DENSE_BELOW = {"cpu": 4, "cuda": 32}
"""Latents of the dictionary for each that fires, under which plain products are faster than sparse
ones: measured on a processor, where sparse ones took 0.75 of the time at 8; on a GPU estimated from
memory bandwidth and float32 operations."""


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
    """Tell whether plain products are the faster way to train an autoencoder."""
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
