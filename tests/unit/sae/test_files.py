"""Autoencoders on disk: what SAELens computes from the files is what this library computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    SaeFacts,
    check_origin,
    read_own_facts,
    read_sae,
    write_sae,
)
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tensors import read_provenance

D_MODEL, LATENTS = 24, 96
FACTS = SaeFacts(
    hook_name="model.layers.3",
    model_name="org/model",
    revision="step100",
    context_size=128,
    dataset="wiki",
    training={"seed": 4, "learning_rate": 0.001, "held_out_losses": {"0.001": 0.25}},
)
PROVENANCE = Provenance(kind="sae", study="demo", settings={"k": 5}, inputs={}, code="c", layer=3)
KINDS = [
    (architecture, normalise)
    for architecture in ("topk", "batchtopk", "relu")
    for normalise in ("l2", "none")
]


def random_sae(architecture: Any, normalise: Any, *, d_model: int = D_MODEL) -> SparseAutoencoder:
    """An autoencoder with random weights, a bias and unit directions."""
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(
        d_model,
        LATENTS,
        architecture,
        k=None if architecture == "relu" else 5,
        normalise=normalise,
        threshold=0.3 if architecture == "batchtopk" else None,
    )
    for weight in (sae.w_enc, sae.b_enc, sae.w_dec, sae.b_dec):
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    sae.w_dec.div_(sae.w_dec.norm(dim=1, keepdim=True))
    return sae


def random_activations(rows: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(rows, D_MODEL, generator=generator) + 1


def sae_lens_forward(folder: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """SAELens' documented forward pass from the two files alone: latents and reconstruction."""
    config = json.loads((folder / CONFIG_FILE).read_text())
    weights = load_file(folder / WEIGHTS_FILE)
    coefficient = torch.ones(len(x), 1)
    if config["normalize_activations"] == "constant_norm_rescale":
        coefficient = config["d_in"] ** 0.5 / x.norm(dim=-1, keepdim=True)
    inputs = x * coefficient - weights["b_dec"] * config["apply_b_dec_to_input"]
    before = inputs @ weights["W_enc"] + weights["b_enc"]
    if config["architecture"] == "topk":
        values, latents = before.topk(config["k"], dim=-1)
        z = torch.zeros_like(before).scatter_(-1, latents, values.relu())
    elif config["architecture"] == "jumprelu":
        z = before.relu() * (before > weights["threshold"])
    else:
        assert config["architecture"] == "standard"
        z = before.relu()
    return z, (z @ weights["W_dec"] + weights["b_dec"]) / coefficient


def dense_latents(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    fired = sae.fired(sae.to_sae_space(x)[0])
    dense = torch.zeros(len(x), sae.n_latents)
    dense[fired.rows, fired.latents] = fired.values
    return dense


@pytest.mark.parametrize(("architecture", "normalise"), KINDS)
def test_sae_lens_computes_the_same(tmp_path: Path, architecture: str, normalise: str) -> None:
    sae = random_sae(architecture, normalise)
    x = random_activations()
    write_sae(tmp_path, sae, FACTS, PROVENANCE)
    z, reconstruction = sae_lens_forward(tmp_path, x)
    assert (z > 0).any()
    torch.testing.assert_close(z, dense_latents(sae, x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(reconstruction, sae.reconstruct(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("architecture", "normalise"), KINDS)
def test_reads_back_what_was_written(tmp_path: Path, architecture: str, normalise: str) -> None:
    sae = random_sae(architecture, normalise)
    write_sae(tmp_path / "first", sae, FACTS, PROVENANCE)
    back = read_sae(tmp_path / "first" / WEIGHTS_FILE, d_model=D_MODEL)
    assert (back.architecture, back.k, back.normalise) == (architecture, sae.k, normalise)
    assert back.threshold == pytest.approx(sae.threshold)
    for name in ("w_enc", "b_enc", "w_dec", "b_dec"):
        # One rounding of float32.
        torch.testing.assert_close(getattr(back, name), getattr(sae, name), rtol=1.2e-7, atol=0)
    write_sae(tmp_path / "second", back, FACTS, PROVENANCE)
    weights = [(tmp_path / part / WEIGHTS_FILE).read_bytes() for part in ("first", "second")]
    assert weights[0] == weights[1]


def test_where_the_width_is_a_power_of_four_nothing_is_rounded(tmp_path: Path) -> None:
    sae = random_sae("topk", "l2", d_model=64)
    write_sae(tmp_path, sae, FACTS, PROVENANCE)
    back = read_sae(tmp_path)
    assert all(
        torch.equal(getattr(back, name), getattr(sae, name))
        for name in ("w_enc", "b_enc", "w_dec", "b_dec")
    )


def test_configuration_says_what_sae_lens_and_readers_want(tmp_path: Path) -> None:
    write_sae(tmp_path, random_sae("topk", "l2"), FACTS, PROVENANCE)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    metadata = config["metadata"]
    assert config["k"] == 5
    assert config["dtype"] == "float32"
    assert config["rescale_acts_by_decoder_norm"] is False
    assert metadata["sae_lens_version"] == "6.54.12"
    assert metadata["hook_name"] == "model.layers.3"
    assert metadata["model_from_pretrained_kwargs"] == {"revision": "step100"}
    assert (metadata["context_size"], metadata["dataset_path"]) == (128, "wiki")
    own = read_own_facts(tmp_path)
    assert (own["architecture"], own["k"], own["normalise"]) == ("topk", 5, "l2")
    assert own["training"] == FACTS.training
    assert own["provenance"]["layer"] == 3
    assert read_provenance(tmp_path / WEIGHTS_FILE) == PROVENANCE


def test_equal_autoencoders_are_equal_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    for part in ("a", "b"):
        write_sae(tmp_path / part, random_sae("batchtopk", "l2"), FACTS, PROVENANCE)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]


def test_an_unfinished_batchtopk_is_not_written(tmp_path: Path) -> None:
    sae = random_sae("batchtopk", "none")
    sae.threshold = None
    with pytest.raises(ValueError, match="threshold"):
        write_sae(tmp_path, sae, FACTS, PROVENANCE)
    assert not list(tmp_path.iterdir())


def test_damaged_or_missing_files(tmp_path: Path) -> None:
    write_sae(tmp_path, random_sae("topk", "l2"), FACTS, PROVENANCE)
    with pytest.raises(StudyError, match=r"cfg.json: an autoencoder of width 24, .* 32 wide"):
        read_sae(tmp_path, d_model=32)
    weights = tmp_path / WEIGHTS_FILE
    content = bytearray(weights.read_bytes())
    content[-10] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StudyError, match=r"sae_weights.safetensors: damaged"):
        read_sae(tmp_path)
    weights.unlink()
    with pytest.raises(StudyError, match=r"sae_weights.safetensors: no such file"):
        read_sae(tmp_path)
    (tmp_path / CONFIG_FILE).write_text('{"archit')
    with pytest.raises(StudyError, match=r"cfg.json: not valid JSON"):
        read_sae(tmp_path)
    (tmp_path / CONFIG_FILE).unlink()
    with pytest.raises(StudyError, match=r"cfg.json: no such JSON file"):
        read_sae(tmp_path)


def test_an_autoencoder_of_something_else_is_refused(tmp_path: Path) -> None:
    origin = replace(PROVENANCE, model="demo", checkpoint="step10")
    write_sae(tmp_path, random_sae("relu", "none"), FACTS, origin)
    check_origin(tmp_path / WEIGHTS_FILE, "demo", "step10", 3)
    with pytest.raises(StudyError, match=r"of checkpoint 'step10', but checkpoint 'step20' is"):
        check_origin(tmp_path, "demo", "step20", 3)
    with pytest.raises(StudyError, match="of layer 3, but layer 4 is measured"):
        check_origin(tmp_path, "demo", "step10", 4)


def test_reads_an_autoencoder_that_sae_lens_wrote(tmp_path: Path) -> None:
    """One without this library's metadata, and refuses what it would compute otherwise."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "W_enc": torch.randn(4, 8, generator=generator),
        "W_dec": torch.randn(8, 4, generator=generator),
        "b_enc": torch.randn(8, generator=generator),
        "b_dec": torch.randn(4, generator=generator),
    }
    config = {"architecture": "topk", "d_in": 4, "d_sae": 8, "k": 2, "dtype": "float32"}
    save_file(weights, tmp_path / WEIGHTS_FILE)

    def read_with(**changes: Any) -> SparseAutoencoder:
        (tmp_path / CONFIG_FILE).write_text(json.dumps(config | changes))
        return read_sae(tmp_path)

    sae = read_with()
    assert torch.equal(sae.w_enc, weights["W_enc"].t())
    assert (sae.k, sae.normalise) == (2, "none")
    check_origin(tmp_path, "any", "any", 0)
    with pytest.raises(StudyError, match="has no `glossogenesis` in its metadata"):
        read_own_facts(tmp_path)
    with pytest.raises(StudyError, match=r"cfg.json: architecture 'gated' is not computed"):
        read_with(architecture="gated")
    with pytest.raises(StudyError, match=r"normalize_activations 'layer_norm' is not computed"):
        read_with(normalize_activations="layer_norm")
    with pytest.raises(StudyError, match=r"tensor 'W_enc' is \(4, 8\), but cfg.json says \(4, 9\)"):
        read_with(d_sae=9)
    with pytest.raises(StudyError, match=r"tensor 'threshold' is missing"):
        read_with(architecture="jumprelu")
    with pytest.raises(StudyError, match="k is 9, larger than the dictionary of 8"):
        read_with(k=9)
    save_file(weights | {"threshold": torch.rand(8)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(StudyError, match="thresholds of their own"):
        read_with(architecture="jumprelu")
