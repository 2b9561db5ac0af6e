"""Where training starts: a decoder of random directions, its transpose as encoder, a median."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from glossogenesis.errors import StudyError
from glossogenesis.sae.autoencoder import Architecture, Normalise, SparseAutoencoder


def initial_autoencoder(
    first_batch: Tensor,
    n_latents: int,
    architecture: Architecture,
    *,
    k: int | None,
    normalise: Normalise,
    seed: int,
) -> SparseAutoencoder:
    """Return an untrained autoencoder on the device of `first_batch`.

    Rows of the decoder are random unit vectors, the encoder starts equal to it, and the decoder's
    bias is the geometric median of the first batch, as in Inaba et al. 2025.

    Args:
        first_batch: activations in the space of the autoencoder, float32 [row, d_model].
        n_latents: size of the dictionary.
        architecture: which latents fire.
        k: how many, but for `relu`.
        normalise: what was done to the activations.
        seed: of the decoder; equal on every device.

    Raises:
        StudyError: `k` is larger than the dictionary.
    """
    d_model = first_batch.shape[1]
    sae = SparseAutoencoder(d_model, n_latents, architecture, k=k, normalise=normalise)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.rand(n_latents, d_model, generator=generator).mul_(2.0).sub_(1.0)
    sae.w_dec.copy_(functional.normalize(directions, dim=1))
    sae.w_enc.copy_(sae.w_dec)
    sae.to(first_batch.device)
    sae.b_dec.copy_(geometric_median(first_batch))
    return sae


def geometric_median(
    points: Tensor, *, iterations: int = 100, tolerance: float = 1e-5, distance_floor: float = 1e-8
) -> Tensor:
    """Return the point with the least sum of distances to `points` [row, d_model], by Weiszfeld.

    It starts at the mean and ends after `iterations` or once it moves by less than `tolerance`.
    """
    median = points.mean(0)
    for _ in range(iterations):
        weights = (points - median).norm(dim=1).add_(distance_floor).reciprocal_()
        moved = (weights @ points) / weights.sum()
        distance = float((moved - median).norm())
        median = moved
        if distance < tolerance:
            break
    return median


def warm_started(
    neighbour: SparseAutoencoder,
    first_batch: Tensor,
    n_latents: int,
    architecture: Architecture,
    *,
    k: int | None,
    normalise: Normalise,
    name: str,
) -> SparseAutoencoder:
    """Return an autoencoder with the weights of a neighbouring checkpoint's.

    `name` is what messages call the neighbour. The decoder's rows are scaled to unit norm.

    Raises:
        StudyError: the neighbour has another width, dictionary or normalisation.
    """
    sae = SparseAutoencoder(first_batch.shape[1], n_latents, architecture, k=k, normalise=normalise)
    for what, theirs, ours in (
        ("width", neighbour.d_model, sae.d_model),
        ("number of latents", neighbour.n_latents, sae.n_latents),
        ("normalisation", neighbour.normalise, sae.normalise),
    ):
        if theirs != ours:
            raise StudyError(
                f"{name}: an autoencoder of {what} {theirs} cannot start one of {what} {ours}; "
                "train both with the same settings, or set `warm_start: false`"
            )
    sae.load_state_dict(neighbour.state_dict())
    unit_rows(sae.w_dec)
    return sae.to(first_batch.device)


def unit_rows(weights: Tensor) -> None:
    """Scale the rows of `weights` to unit norm, in place; rows of zeros stay."""
    norms = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    weights.div_(norms.clamp_min_(torch.finfo(weights.dtype).tiny))
