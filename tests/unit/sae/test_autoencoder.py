"""What fires after training, and what is reconstructed, against the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.autoencoder import Architecture, FiredLatents, SparseAutoencoder

D_MODEL, LATENTS, ROWS = 12, 40, 25


def random_sae(architecture: Architecture, threshold: float | None = None) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(0)
    k = None if architecture == "relu" else 5
    sae = SparseAutoencoder(D_MODEL, LATENTS, architecture, k=k, threshold=threshold)
    for parameter in sae.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return sae


def random_rows() -> Tensor:
    return torch.randn(ROWS, D_MODEL, generator=torch.Generator().manual_seed(1))


def dense(fired: FiredLatents) -> Tensor:
    latents = torch.zeros(fired.n_rows, LATENTS)
    latents[fired.rows, fired.latents] = fired.values
    return latents


def test_topk_fires_the_largest_that_are_positive() -> None:
    sae, u = random_sae("topk"), random_rows()
    sae.b_enc.sub_(1.5)
    before = (u - sae.b_dec) @ sae.w_enc.t() + sae.b_enc
    torch.testing.assert_close(sae.preactivations(u), before)
    least = before.sort(dim=1, descending=True).values[:, 4:5]
    expected = before.relu() * (before >= least)
    fired = sae.fired(u)
    torch.testing.assert_close(dense(fired), expected)
    assert (fired.values > 0).all()
    assert len(fired.values) < 5 * ROWS


def test_batchtopk_fires_above_its_threshold() -> None:
    sae, u = random_sae("batchtopk", threshold=0.7), random_rows()
    before = sae.preactivations(u)
    torch.testing.assert_close(dense(sae.fired(u)), before * (before > 0.7))


def test_batchtopk_without_threshold_is_refused() -> None:
    with pytest.raises(StudyError, match="without threshold"):
        random_sae("batchtopk").fired(random_rows())


def test_relu_fires_all_that_are_positive() -> None:
    sae, u = random_sae("relu"), random_rows()
    torch.testing.assert_close(dense(sae.fired(u)), sae.preactivations(u).relu())


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "relu"])
def test_chunks_change_nothing(architecture: Architecture) -> None:
    sae, u = random_sae(architecture, 0.5), random_rows()
    whole, chunked = sae.fired(u), sae.fired(u, rows_at_once=4)
    assert torch.equal(whole.rows, chunked.rows)
    assert (whole.rows.diff() >= 0).all()
    torch.testing.assert_close(dense(whole), dense(chunked))
    assert chunked.n_rows == ROWS
    assert sae.fired(u[:0]).n_rows == 0


def test_the_reconstruction_has_the_scale_of_the_residual_stream() -> None:
    sae, x = random_sae("topk"), 50 * random_rows().bfloat16()
    x[3] = 0
    norms = x.float().norm(dim=1, keepdim=True)
    u, scale = sae.to_sae_space(x)
    assert u.dtype == torch.float32
    torch.testing.assert_close(scale, norms)
    torch.testing.assert_close(u.norm(dim=1), (norms > 0).float().flatten())
    expected = (dense(sae.fired(u)) @ sae.w_dec + sae.b_dec) * norms
    torch.testing.assert_close(sae.reconstruct(x), expected, rtol=1e-5, atol=1e-4)
    assert not sae.reconstruct(x)[3].any()


def test_without_normalisation_the_autoencoder_sees_the_stream_itself() -> None:
    sae = SparseAutoencoder(D_MODEL, LATENTS, "topk", k=3, normalise="none")
    u, scale = sae.to_sae_space(50 * random_rows())
    assert torch.equal(u, 50 * random_rows())
    assert torch.equal(scale, torch.ones(ROWS, 1))


def test_a_row_for_which_nothing_fires_is_the_bias() -> None:
    sae = random_sae("topk")
    sae.b_enc.fill_(-100.0)
    u = random_rows()
    assert sae.fired(u).offsets().tolist() == [0] * (ROWS + 1)
    torch.testing.assert_close(sae.decode(sae.fired(u)), sae.b_dec.expand(ROWS, -1))


def test_a_k_above_the_dictionary_is_refused() -> None:
    with pytest.raises(StudyError, match="k is 41, larger than the dictionary of 40 latents"):
        SparseAutoencoder(D_MODEL, LATENTS, "topk", k=41)
