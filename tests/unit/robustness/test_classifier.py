"""A fresh head on a language model, and the classifier's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation, tokenizer_digest
from glossogenesis.models.loading import load_model
from glossogenesis.robustness.classifier import fresh_classifier, save_classifier
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.tensors import read_provenance
from support.separable_posts import LABELS, save_tiny_model, tiny_fresh_classifier
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_models import EACH_ARCHITECTURE, tiny_model

PROVENANCE = Provenance(kind="classifier", study="test", settings={"日": "本"}, inputs={}, code="0")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_tiny_checkpoint(tmp_path / "checkpoint")


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_all_weights_but_the_head_are_the_checkpoints(architecture: str, tmp_path: Path) -> None:
    model = tiny_fresh_classifier(save_tiny_model(tmp_path, architecture))
    kept = tiny_model(architecture).state_dict()
    fresh = [name for name in model.state_dict() if name not in kept]
    assert fresh == ["score.weight"]
    assert all(
        torch.equal(tensor, kept[name])
        for name, tensor in model.state_dict().items()
        if name not in fresh
    )
    assert all(weight.requires_grad for weight in model.parameters())


def test_the_head_is_drawn_by_the_seed_alone(checkpoint: Path) -> None:
    location = CheckpointLocation(str(checkpoint))
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(heads))
        heads.append(tiny_fresh_classifier(location, seed=seed).get_parameter("score.weight"))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert heads[0].shape == (len(LABELS), 32)
    assert heads[0].std().item() == pytest.approx(0.02, rel=0.2)


def test_files_load_as_the_same_classifier_and_are_equal_bytes(
    checkpoint: Path, tmp_path: Path
) -> None:
    model = tiny_fresh_classifier(CheckpointLocation(str(checkpoint)))
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        (folder / "model-00002-of-00002.safetensors").write_bytes(b"of a run before")
        save_classifier(folder, model, checkpoint, PROVENANCE)
    first, second = ({p.name: file_digest(p) for p in folder.iterdir()} for folder in folders)
    assert first == second
    assert set(first) >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert "model-00002-of-00002.safetensors" not in first
    assert tokenizer_digest(folders[0]) == tokenizer_digest(checkpoint)
    assert read_provenance(folders[0] / "model.safetensors") == PROVENANCE

    loaded = load_model(CheckpointLocation(str(folders[0])), device="cpu", head="classifier")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    assert loaded.model.config.id2label == dict(enumerate(LABELS))
    assert loaded.model.config.pad_token_id == 0
    config = json.loads((folders[0] / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForSequenceClassification"]


def test_metadata_stands_in_order_of_key(checkpoint: Path, tmp_path: Path) -> None:
    """safetensors itself orders it again in each process."""
    model = tiny_fresh_classifier(CheckpointLocation(str(checkpoint)))
    save_classifier(tmp_path / "out", model, checkpoint, PROVENANCE)
    content = (tmp_path / "out" / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == ["format", "glossogenesis"]


def test_what_cannot_become_a_classifier_is_refused(checkpoint: Path) -> None:
    location = CheckpointLocation(str(checkpoint))
    with pytest.raises(StudyError, match="only the label 'cars'; a classifier needs two"):
        fresh_classifier(location, ["cars"], pad_id=0, seed=0)
    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudyError, match=r"lack 1 weights of the model \(model.layers.1.mlp.up"):
        tiny_fresh_classifier(location)
    (checkpoint / "model.safetensors").write_bytes(b"")
    with pytest.raises(StudyError, match=r"model.safetensors: truncated or damaged"):
        tiny_fresh_classifier(location)
    (checkpoint / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(StudyError, match="'mamba' is not supported"):
        tiny_fresh_classifier(location)
