"""Small sparse autoencoders with random weights, or with no error at all."""

from __future__ import annotations

import torch

from glossogenesis.sae.autoencoder import SparseAutoencoder


def random_sae(
    d_model: int,
    n_latents: int,
    *,
    architecture: str = "topk",
    normalise: str = "l2",
    k: int = 6,
    seed: int = 0,
) -> SparseAutoencoder:
    """Random weights, biases among them; rows of the decoder have unit norm."""
    generator = torch.Generator().manual_seed(seed)
    sae = SparseAutoencoder(
        d_model,
        n_latents,
        architecture,
        k=None if architecture == "relu" else k,
        normalise=normalise,
    )
    for weight in (sae.w_enc, sae.b_enc, sae.w_dec, sae.b_dec):
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    sae.w_dec /= sae.w_dec.norm(dim=1, keepdim=True)
    return sae


def perfect_sae(d_model: int, *, normalise: str = "l2") -> SparseAutoencoder:
    """Two latents an axis, one for each sign: what it reconstructs is what it was given."""
    axes = torch.eye(d_model)
    sae = SparseAutoencoder(d_model, 2 * d_model, "relu", normalise=normalise)
    sae.w_enc.copy_(torch.cat([axes, -axes]))
    sae.w_dec.copy_(torch.cat([axes, -axes]))
    return sae
