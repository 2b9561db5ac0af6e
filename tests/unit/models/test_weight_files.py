"""What is recorded and verified is what is loaded, whatever else lies in a checkpoint's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from glossogenesis.models.weight_files import check_weights, needed_weights, require_weights
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_models import with_random_weights

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return save_tiny_checkpoint(tmp_path / "a")


@pytest.fixture
def sharded(whole: Path, tmp_path: Path) -> Path:
    """Another model, in shards."""
    model: Any = AutoModelForCausalLM.from_pretrained(whole)
    with_random_weights(model, seed=7).save_pretrained(tmp_path / "b", max_shard_size="100KB")
    assert len(list((tmp_path / "b").glob("model-*"))) > 1
    return tmp_path / "b"


def copied(source: Path, target: Path, pattern: str) -> None:
    for path in source.glob(pattern):
        shutil.copy(path, target)


def manifest_of(folder: Path, path: Path) -> CheckpointManifest:
    location = CheckpointLocation(str(folder))
    manifest = describe_checkpoint(location, model="m", checkpoint="c", source="./a", provenance={})
    manifest.write(path)
    return manifest


def weights_in(folder: Path) -> torch.Tensor:
    model: Any = load_model(CheckpointLocation(str(folder)), device="cpu").model
    return model.model.layers[0].mlp.up_proj.weight


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)


def test_of_two_sets_the_loaded_one_is_recorded_and_verified(
    whole: Path, sharded: Path, tmp_path: Path, capsys: Any
) -> None:
    expected = weights_in(whole).clone()
    copied(sharded, whole, "model*")
    torch.testing.assert_close(weights_in(whole), expected)
    manifest = manifest_of(whole, tmp_path / "manifest.json")
    assert list(manifest.weights) == [WHOLE]
    assert "weights that are not loaded: model-00001-of-" in capsys.readouterr().out
    flip(next(whole.glob("model-00001*")))
    CheckpointManifest.read(tmp_path / "manifest.json")
    flip(whole / WHOLE)
    with pytest.raises(StudyError, match=r"model.safetensors: damaged, its SHA-256"):
        CheckpointManifest.read(tmp_path / "manifest.json")


def test_of_shards_those_that_the_index_names_are_recorded(sharded: Path, tmp_path: Path) -> None:
    used = sorted(path.name for path in sharded.glob("model-*"))
    shutil.copy(sharded / used[0], sharded / "model-00001-of-00099.safetensors")
    shutil.copy(sharded / used[0], sharded / "model.fp16.safetensors")
    shutil.copy(sharded.parent / "a" / "tokenizer.json", sharded)
    assert list(manifest_of(sharded, tmp_path / "manifest.json").weights) == used
    assert weights_in(sharded).isfinite().all()


def test_weights_that_come_later_and_would_be_loaded_instead_are_refused(
    whole: Path, sharded: Path, tmp_path: Path
) -> None:
    shutil.copy(whole / "tokenizer.json", sharded)
    manifest_of(sharded, tmp_path / "manifest.json")
    shutil.copy(whole / WHOLE, sharded)
    with pytest.raises(StudyError, match="holds other weights, which would be loaded instead of"):
        CheckpointManifest.read(tmp_path / "manifest.json")


def test_a_missing_shard_a_missing_index_and_a_lone_index_are_named(sharded: Path) -> None:
    index = (sharded / INDEX).read_bytes()
    (sharded / INDEX).unlink()
    with pytest.raises(StudyError, match=r"weights in parts \(model-00001-of.*without their model"):
        check_weights(sharded)
    (sharded / INDEX).write_bytes(index)
    for path in sharded.glob("model-*"):
        path.unlink()
    with pytest.raises(StudyError, match=r"is there, but no file that it names; download them"):
        require_weights(sharded, [INDEX, "config.json"])
    with pytest.raises(StudyError, match=r"model-00001-of-.*missing, though the index names it"):
        check_weights(sharded)


def test_a_file_that_the_configuration_names_goes_first(whole: Path, sharded: Path) -> None:
    expected = weights_in(sharded).clone()
    copied(sharded, whole, "model*")
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps({**config, "transformers_weights": INDEX}))
    assert {path.name for path in check_weights(whole)} == {
        path.name for path in sharded.glob("model-*")
    }
    torch.testing.assert_close(weights_in(whole), expected)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["adapter_model.safetensors", "adapter_config.json"],
            "holds a LoRA adapter, which .*merge",
        ),
        (["adapter_model.bin"], "holds a LoRA adapter"),
        (["llama-Q4_K_M.gguf"], r"holds GGUF weights \(llama-Q4_K_M.gguf\), which are quantised"),
        (["consolidated.safetensors", "params.json"], ".* in the format of their publisher"),
        (["__0_0.distcp", ".metadata"], "holds the state of a training .*save_pretrained"),
        (["model.fp16.safetensors"], "holds only variants of the weights .*rename"),
        (["sae_weights.safetensors", "cfg.json"], "holds a sparse autoencoder"),
        (["pytorch_model.bin"], r"weights are pickles \(pytorch_model.bin\).*convert"),
        (["README.md"], "no model.safetensors.index.json and no model.safetensors"),
    ],
)
def test_a_folder_of_something_else_says_what_it_is(names: list[str], message: str) -> None:
    assert needed_weights(names) == []
    with pytest.raises(StudyError, match=f"some/place: {message}"):
        require_weights("some/place", names)


def test_an_adapter_names_its_base_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    config = {"base_model_name_or_path": "meta-llama/Llama-3.1-8B", "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(StudyError, match=r"its base model, meta-llama/Llama-3\.1-8B, and is none"):
        check_weights(tmp_path)


def test_of_a_repository_only_what_is_loaded_is_needed() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    others = ["consolidated-00001-of-00002.safetensors", "model.fp16.safetensors", "config.json"]
    assert needed_weights([*shards, *others, INDEX]) == shards
    assert needed_weights([*shards, *others, INDEX, WHOLE]) == [WHOLE]
    assert needed_weights([*shards, *others]) == []
