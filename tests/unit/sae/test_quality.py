"""Quality: every number against its formula on all tokens at once, and known answers."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.quality import (
    DENSITY_EDGES,
    QualitySums,
    density,
    distribution,
    measure_quality,
)
from glossogenesis.storage.activations.cache import ID_DTYPES, ActivationRows

D_MODEL, LATENTS = 12, 40
LANGUAGES = ("en", "ja", "ru")


def random_sae(normalise: Any, *, latents: int = LATENTS) -> SparseAutoencoder:
    sae = SparseAutoencoder(D_MODEL, latents, "topk", k=4, normalise=normalise)
    generator = torch.Generator().manual_seed(0)
    sae.w_dec.copy_(torch.randn(sae.w_dec.shape, generator=generator))
    sae.w_dec.div_(sae.w_dec.norm(dim=1, keepdim=True))
    sae.w_enc.copy_(sae.w_dec + 0.1 * torch.randn(sae.w_dec.shape, generator=generator))
    sae.b_dec.copy_(0.1 * torch.randn(D_MODEL, generator=generator))
    return sae


def shard(rows: int, *, seed: int, dtype: torch.dtype = torch.bfloat16) -> ActivationRows:
    """Activations with a mean far from zero; English and Japanese in turn."""
    generator = torch.Generator().manual_seed(seed)
    activations = 5 + torch.randn(rows, D_MODEL, generator=generator)
    ids = {name: torch.zeros(rows, dtype=kind) for name, kind in ID_DTYPES.items()}
    ids["languages"] = (torch.arange(rows) % 2).to(torch.uint8)
    return ActivationRows.of(activations.to(dtype), ids)


def with_activations(rows: ActivationRows, activations: Tensor) -> ActivationRows:
    return ActivationRows.of(activations, rows.ids)


@pytest.mark.parametrize("normalise", ["l2", "none"])
def test_every_number_is_its_formula(normalise: str) -> None:
    sae = random_sae(normalise)
    shards = [shard(5000, seed=0), shard(700, seed=1)]
    quality = measure_quality(sae, shards, LANGUAGES)
    x = torch.cat([part.activations for part in shards]).double()
    u = x / x.norm(dim=1, keepdim=True) if normalise == "l2" else x
    z = torch.zeros(len(x), LATENTS, dtype=torch.float64)
    fired = sae.fired(u.float())
    z[fired.rows, fired.latents] = fired.values.double()
    v = z @ sae.w_dec.double() + sae.b_dec.double()

    def expected(rows: Tensor) -> dict[str, float]:
        a, b, scale = u[rows], v[rows], x[rows].norm(dim=1, keepdim=True)
        scale = scale if normalise == "l2" else torch.ones_like(scale)
        e = a - b
        variance = (a - a.mean(dim=0)).square().sum(dim=1).mean()
        stream = x[rows]
        stream_variance = (stream - stream.mean(dim=0)).square().sum(dim=1).mean()
        return {
            "tokens": len(a),
            "l0": float((z[rows] != 0).sum(dim=1).double().mean()),
            "explained_variance": float(1 - e.square().sum(dim=1).mean() / variance),
            "explained_variance_centred": float(1 - e.var(0, False).sum() / a.var(0, False).sum()),
            "explained_variance_residual_stream": float(
                1 - (e * scale).square().sum(dim=1).mean() / stream_variance
            ),
            "mse": float(e.square().sum(dim=1).mean()),
            "nmse": float((e.square().sum(dim=1) / a.square().sum(dim=1)).mean()),
            "cosine": float(torch.nn.functional.cosine_similarity(a, b).mean()),
            "l2_ratio": float((b.norm(dim=1) / a.norm(dim=1)).mean()),
            "reconstruction_bias": float(b.square().sum() / (a * b).sum()),
        }

    report = quality.to_json()
    for name, value in expected(torch.arange(len(x))).items():
        assert report[name] == pytest.approx(value, rel=1e-5), name
    english = torch.cat([part.languages for part in shards]) == 0
    for name, value in expected(english.nonzero()[:, 0]).items():
        assert report["by_language"]["en"][name] == pytest.approx(value, rel=1e-5), name
    assert set(report["by_language"]) == {"en", "ja"}
    assert torch.equal(quality.firings, (z > 0).sum(dim=0))
    assert report["dead_share"] == float((z == 0).all(dim=0).double().mean())
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_perfect_autoencoder() -> None:
    sae = SparseAutoencoder(D_MODEL, 2 * D_MODEL, "relu", normalise="none")
    both = torch.cat([torch.eye(D_MODEL), -torch.eye(D_MODEL)])
    sae.w_enc.copy_(both)
    sae.w_dec.copy_(both)
    part = shard(500, seed=0, dtype=torch.float32)
    quality = measure_quality(sae, [part], LANGUAGES)
    best = quality.overall
    assert best.mse == 0
    for value in (best.explained_variance, best.cosine, best.l2_ratio, best.reconstruction_bias):
        assert value == pytest.approx(1)
    assert best.l0 == D_MODEL
    assert quality.encoder_decoder_cosine.tolist() == [1.0] * len(both)
    assert quality.decoder_self_similarity.tolist() == [0.0] * len(both)


def test_an_empty_autoencoder_and_shrinkage() -> None:
    empty = SparseAutoencoder(D_MODEL, 8, "topk", k=2, normalise="none")
    quality = measure_quality(empty, [shard(100, seed=0)], LANGUAGES)
    assert quality.dead_share == 1
    assert (quality.overall.l0, quality.overall.nmse) == (0, 1)
    assert (quality.overall.cosine, quality.overall.l2_ratio) == (0, 0)
    assert quality.overall.reconstruction_bias is None
    u = torch.randn(50, D_MODEL)
    sums = QualitySums(1, D_MODEL)
    sums.add(u, 0.8 * u, torch.ones(50, 1), torch.ones(50), torch.zeros(50, dtype=torch.int64))
    shrunk = sums.of_all()
    assert shrunk.reconstruction_bias == pytest.approx(0.8)
    assert shrunk.l2_ratio == pytest.approx(0.8)
    assert shrunk.cosine == pytest.approx(1)


def test_a_constant_error_is_hidden_by_the_centred_variance_alone() -> None:
    u = torch.randn(200, D_MODEL)
    sums = QualitySums(1, D_MODEL)
    sums.add(u, u + 1, torch.ones(200, 1), torch.ones(200), torch.zeros(200, dtype=torch.int64))
    measures = sums.of_all()
    assert measures.explained_variance_centred == pytest.approx(1)
    assert measures.explained_variance is not None
    assert measures.explained_variance < 0.2


def test_zero_and_equal_activations_have_no_ratios() -> None:
    sae = random_sae("l2")
    part = shard(100, seed=0)
    zeroed = part.activations.clone()
    zeroed[::4] = 0
    some = measure_quality(sae, [with_activations(part, zeroed)], LANGUAGES).overall
    rest = torch.arange(100) % 4 != 0
    others = measure_quality(sae, [part[rest]], LANGUAGES).overall
    assert some.tokens == 100
    for name in ("nmse", "cosine", "l2_ratio"):
        assert getattr(some, name) == pytest.approx(getattr(others, name))
    equal = with_activations(part, torch.ones_like(part.activations))
    assert measure_quality(sae, [equal], LANGUAGES).overall.explained_variance is None
    nothing = with_activations(part, torch.zeros_like(part.activations))
    measures = measure_quality(sae, [nothing], LANGUAGES).overall
    assert (measures.nmse, measures.cosine, measures.explained_variance) == (None, None, None)


def test_nothing_to_measure_or_not_finite() -> None:
    sae = random_sae("l2")
    with pytest.raises(StudyError, match="no held-out activations"):
        measure_quality(sae, [], LANGUAGES)
    part = shard(10, seed=0)
    broken = part.activations.clone()
    broken[3, 2] = torch.inf
    with pytest.raises(StudyError, match="NaN or infinite; extract again"):
        measure_quality(sae, [with_activations(part, broken)], LANGUAGES)


def test_density() -> None:
    firings = torch.tensor([0, 0, 1, 10, 99, 100])
    histogram = density(firings, 100)
    edges, counts = histogram["log10_edges"], histogram["latents"]
    assert histogram["never"] == 2
    assert len(counts) == len(edges) - 1
    assert sum(counts) == 4
    assert counts[edges.index(-2)] == 1
    assert counts[edges.index(-1)] == 1
    assert counts[-1] == 2
    rare = density(torch.tensor([1]), 10**10)
    assert rare["latents"][0] == 1
    assert (DENSITY_EDGES[0], DENSITY_EDGES[-1]) == (-8, 0)


def test_distribution() -> None:
    summary = distribution(torch.arange(101).float())
    assert (summary["mean"], summary["minimum"], summary["maximum"]) == (50, 0, 100)
    assert summary["quantiles"] == {"0.05": 5, "0.25": 25, "0.5": 50, "0.75": 75, "0.95": 95}
    assert math.isclose(distribution(torch.tensor([0.5]))["mean"], 0.5)


def test_shards_are_let_go_of() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def shards() -> Iterator[ActivationRows]:
        for seed in range(6):
            part = shard(100, seed=seed)
            alive.append(weakref.ref(part.activations))
            yield part
            del part
            # The loop that is being fed still holds the one before.
            assert sum(reference() is not None for reference in alive) <= 1

    measure_quality(random_sae("l2"), shards(), LANGUAGES)
    assert len(alive) == 6
