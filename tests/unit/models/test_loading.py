"""Loading from folders: what is accepted, what is refused, and what the message says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation, local_files, tokenizer_digest
from glossogenesis.models.device import resolve_device
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.weight_files import check_weights
from support.tiny_models import random_tokens, tiny_config, tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model("llama").save_pretrained(folder)
    words = Tokenizer(WordLevel({"<unk>": 0, "cat": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def _load(folder: Path, subfolder: str | None = None) -> None:
    load_model(CheckpointLocation(str(folder), subfolder=subfolder), device="cpu")


def test_loads_the_same_model(saved: Path) -> None:
    loaded = load_model(CheckpointLocation(str(saved)), dtype="float32", device="cpu")
    ids = torch.tensor(random_tokens([9]))
    torch.testing.assert_close(loaded.model(ids).logits, tiny_model("llama")(ids).logits)
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert loaded.files.folder == saved
    assert loaded.files.commit is None
    assert loaded.anatomy.n_layers == 4


def test_dtype_and_subfolder(folder: Path) -> None:
    (folder / "step-8").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "step-8" / name)
    location = CheckpointLocation(str(folder), subfolder="step-8")
    assert load_model(location, dtype="bfloat16", device="cpu").anatomy.dtype == torch.bfloat16
    assert load_tokenizer(location).convert_tokens_to_ids("cat") == 1
    with pytest.raises(StudyError, match="no subfolder 'step-9'"):
        _load(folder, "step-9")
    with pytest.raises(StudyError, match="dtype 'int8' is not one of"):
        load_model(location, dtype="int8", device="cpu")


def test_classifier(tmp_path: Path) -> None:
    config = tiny_config("gemma2", num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    loaded = load_model(CheckpointLocation(str(tmp_path)), device="cpu", head="classifier")
    assert loaded.model.config.num_labels == 3


def test_refuses_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(StudyError, match=r"pickles \(pytorch_model.bin\).*convert"):
        _load(folder)


def test_names_missing_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"no model.*safetensors; only safetensors"):
        _load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(StudyError, match=r"config.json: missing"):
        _load(folder)


def test_names_a_truncated_file(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(StudyError, match=r"model.safetensors: truncated or damaged"):
        _load(folder)


def test_names_a_missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(StudyError, match=r"model-00002-of-00002.safetensors: missing"):
        check_weights(folder)


def test_refuses_incomplete_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudyError, match=r"lack 1 weights.*layers.1.mlp.up_proj"):
        _load(folder)


def test_refuses_unknown_architectures_before_reading_weights(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(StudyError, match="'mamba' is not supported"):
        _load(folder)


def test_folder_has_no_revision(saved: Path) -> None:
    with pytest.raises(StudyError, match="a local folder has no revision"):
        local_files(CheckpointLocation(str(saved), revision="main"))
    with pytest.raises(StudyError, match="no such folder"):
        local_files(CheckpointLocation("./nowhere"))


def test_tokenizer_digest_follows_content(folder: Path, tmp_path: Path) -> None:
    first = tokenizer_digest(folder)
    (folder / "model.safetensors").unlink()
    assert tokenizer_digest(folder) == first
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("cat", "dog"))
    assert tokenizer_digest(folder) != first
    with pytest.raises(StudyError, match="holds no tokenizer file"):
        tokenizer_digest(tmp_path)


def test_tokenizer_missing(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(StudyError, match="no loadable tokenizer"):
        load_tokenizer(CheckpointLocation(str(folder)))


def test_device() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
