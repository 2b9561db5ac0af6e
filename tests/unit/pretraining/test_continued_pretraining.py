"""Training that goes on from a checkpoint: every architecture, interruptions, what is refused."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch.optim import AdamW
from transformers import PreTrainedTokenizerFast

import pretrain_model
from glossogenesis.corpora.documents import Document
from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation, tokenizer_digest
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from glossogenesis.pretraining import training as pretraining
from glossogenesis.pretraining.optimizers import make_optimizers
from glossogenesis.pretraining.text import token_batches
from glossogenesis.pretraining.training import RunFiles, checkpoint_start, pretrain
from glossogenesis.storage import tables
from glossogenesis.storage.provenance import SCRIPTS, Provenance, file_digest
from glossogenesis.study.pretrain import PretrainSettings
from support.tiny_models import ARCHITECTURES, EACH_ARCHITECTURE, tiny_anatomy, tiny_model
from support.tiny_tokenizers import with_ends, word_level

LETTERS = "abcdefghij"
SETTINGS: dict[str, Any] = {
    "start": {"model": "tiny", "checkpoint": "c"},
    "text": {"kind": "files", "files": {"en": {1: ["text.txt"]}}},
    "steps": {1: 8},
    "saved_steps": [0, 8],
    "context": 16,
    "batch": 8,
    "optimizer": {"name": "adamw", "rate": 0.01, "warmup_steps": 2},
}


def settings_of(**changes: Any) -> PretrainSettings:
    return PretrainSettings.model_validate(SETTINGS | changes)


def source(phase: int, rng: random.Random) -> Iterator[Document]:
    """Text of few letters, which a random model does not expect."""
    while True:
        yield Document(" ".join(rng.choices(LETTERS[:5], k=20)), ("en",))


def save_checkpoint(
    folder: Path, architecture: str = "llama", *, ends: bool = True, **overrides: Any
) -> CheckpointManifest:
    tiny_model(architecture, **overrides).save_pretrained(folder)
    words = with_ends(word_level([" ".join(LETTERS)]), "<s> $A </s>")
    named = {"bos_token": "<s>", "eos_token": "</s>"} if ends else {}
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **named).save_pretrained(
        folder
    )
    # Such as another version of transformers would write: equal tokens in other bytes.
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return describe(folder)


def describe(folder: Path) -> CheckpointManifest:
    return describe_checkpoint(
        CheckpointLocation(str(folder)), model="tiny", checkpoint="c", source="w", provenance={}
    )


def train(
    manifest: CheckpointManifest, folder: Path, settings: PretrainSettings, **options: Any
) -> None:
    pretrain(
        settings,
        source,
        RunFiles(folder / "run/manifest.json", folder / "run/log.parquet", folder / "resume"),
        Provenance("pretraining", "test", {}, {}, ""),
        start=checkpoint_start(manifest, settings, device="cpu"),
        **options,
    )


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_step_0_is_the_checkpoint_and_training_learns_new_text(
    tmp_path: Path, architecture: str
) -> None:
    tied = ARCHITECTURES.index(architecture) % 2 == 0
    manifest = save_checkpoint(tmp_path / "start", architecture, tie_word_embeddings=tied)
    before = digests(tmp_path / "start")
    optimizer = {"name": "muon" if tied else "adamw", "rate": 0.01, "warmup_steps": 2}
    train(manifest, tmp_path, settings_of(optimizer=optimizer))
    weights, saved = (
        load_model(CheckpointLocation(str(folder)), device="cpu").model.state_dict()
        for folder in (tmp_path / "start", tmp_path / "run/step_000000")
    )
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weight, saved[name]) for name, weight in weights.items())
    for step in ("step_000000", "step_000008"):
        assert tokenizer_digest(tmp_path / "run" / step) == manifest.tokenizer_digest
    losses = pl.read_parquet(tmp_path / "run/log.parquet")["loss"]
    assert losses[-1] < losses[0] - 1.0
    assert digests(tmp_path / "start") == before


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_interrupted_run_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Dropout would draw differently after an interruption.
    manifest = save_checkpoint(tmp_path / "start", "gpt2", resid_pdrop=0.5)
    settings = settings_of(optimizer={"name": name, "warmup_steps": 2}, saved_steps=[0, 3, 8])
    train(manifest, tmp_path / "whole", settings)
    step: Callable[..., None] = pretraining._Run._step
    steps = 0

    def interrupted(*arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(pretraining._Run, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "broken", settings, seconds_between_states=0.0)
    train(manifest, tmp_path / "broken", settings)
    assert steps == 6 + 3
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


def test_matrices_of_blocks_alone_decay() -> None:
    for architecture in ARCHITECTURES:
        anatomy = tiny_anatomy(architecture)
        anatomy.model.requires_grad_(True)
        (optimizer,) = make_optimizers(anatomy, settings_of().optimizer)
        assert isinstance(optimizer, AdamW)
        others, matrices = (group["params"] for group in optimizer.param_groups)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.1]
        named = {id(weight): name for name, weight in anatomy.model.named_parameters()}
        assert len(others) + len(matrices) == len(named)
        kinds = {named[id(weight)].split(".")[-1] for weight in matrices}
        assert kinds == {"weight"}, architecture
        # Every block has at least two matrices each in attention and MLP.
        assert len(matrices) >= 4 * anatomy.n_layers
        assert all(weight is not anatomy.embedding.weight for weight in matrices)


def test_documents_have_the_tokens_that_the_tokenizer_adds(tmp_path: Path) -> None:
    manifest = save_checkpoint(tmp_path)
    settings = settings_of()
    start = checkpoint_start(manifest, settings, device="cpu")
    ids = torch.cat(
        [batch.flatten() for batch in token_batches(source, start.tokenizer, settings, 1)]
    )
    first, end = start.tokenizer.bos_token_id, start.tokenizer.eos_token_id
    ends = (ids == end).nonzero().flatten()
    assert ids[0] == first
    assert ends.tolist() == list(range(40, len(ids), 41))  # 20 letters, 19 spaces, two ends
    assert (ids[ends[:-1] + 1] == first).all()


def test_checkpoints_that_training_cannot_start_from(tmp_path: Path) -> None:
    manifest = save_checkpoint(tmp_path / "start", "gpt2")

    def refused(message: str, of: CheckpointManifest = manifest, **changes: Any) -> None:
        with pytest.raises(StudyError, match=message):
            checkpoint_start(of, settings_of(**changes), device="cpu")

    other = {"model": "tiny", "checkpoint": "d"}
    refused("the manifest is of checkpoint tiny c, which is not what `start` names", start=other)
    refused("tiny c: reads 128 tokens at most, but training sequences have 256", context=256)
    refused("have 512; lower", context=128, batch=4, short_contexts=[{"context": 512, "steps": 1}])
    checkpoint_start(manifest, settings_of(context=128), device="cpu")
    refused(
        "has no end-of-document token", save_checkpoint(tmp_path / "endless", "llama", ends=False)
    )
    config = tmp_path / "start/config.json"
    config.write_text(config.read_text().replace('"gpt2"', '"mamba"'))
    refused("architecture 'mamba' is not supported")


def test_models_without_a_longest_text_take_any(tmp_path: Path) -> None:
    manifest = save_checkpoint(tmp_path, "bloom")
    checkpoint_start(manifest, settings_of(context=4096), device="cpu")


def test_text_beyond_the_embeddings_is_refused(tmp_path: Path) -> None:
    manifest = save_checkpoint(tmp_path / "start", vocab_size=8)
    with pytest.raises(StudyError, match=r"has token id \d+, but the model embeds only 8 tokens"):
        train(manifest, tmp_path, settings_of())


def test_a_start_is_given_where_the_settings_name_one(tmp_path: Path) -> None:
    settings = settings_of()
    files = RunFiles(tmp_path / "manifest.json", tmp_path / "log.parquet", tmp_path / "resume")
    with pytest.raises(ValueError, match="where the settings name one"):
        pretrain(settings, source, files, Provenance("pretraining", "test", {}, {}, ""))


class Program:
    """Runs `pretrain_model` on a checkpoint and a text file."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.manifest = save_checkpoint(folder / "start")
        self.manifest.write(folder / "start.json")
        self._monkeypatch = monkeypatch
        lines = [" ".join(random.Random(number).choices(LETTERS, k=20)) for number in range(50)]
        (folder / "text.txt").write_text("\n\n".join(lines), encoding="utf-8")

    def run(self, name: str, training: dict[str, Any] = SETTINGS, **options: Any) -> Path:
        text = {"kind": "files", "files": {"en": {1: [str(self.folder / "text.txt")]}}}
        settings = {"training": training | {"text": text}, "shares": {"en": {"1": 1.0}}}
        output = self.folder / name / "manifest.json"
        given = {
            "settings": json.dumps(settings),
            "study": "test",
            "resume-dir": self.folder / "resume",
            "output": output,
            "training": output.parent / "training.parquet",
            **options,
        }
        written = [f"--{key}={value}" for key, value in given.items()]
        self._monkeypatch.setattr(sys, "argv", [str(SCRIPTS / "pretrain_model.py"), *written])
        pretrain_model.main()
        return output


def test_the_program_records_what_it_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path, monkeypatch)
    output = program.run("run", start=tmp_path / "start.json")
    written = json.loads(output.read_text(encoding="utf-8"))
    assert [row["step"] for row in written["checkpoints"]] == [0, 8]
    assert [row["tokens"] for row in written["checkpoints"]] == [0, 8 * 16 * 8]
    inputs = written["provenance"]["inputs"]
    assert inputs["start"] == file_digest(tmp_path / "start.json")
    log = tables.read_provenance(output.parent / "training.parquet")
    assert log.inputs == inputs
    described = describe(output.parent / "step_000008")
    assert described.tokenizer_digest == program.manifest.tokenizer_digest


def test_the_program_needs_both_start_and_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path, monkeypatch)
    with pytest.raises(StudyError, match="`start` and --start belong together"):
        program.run("run")
    random_start = {key: value for key, value in SETTINGS.items() if key != "start"}
    with pytest.raises(StudyError, match="`start` and --start belong together"):
        program.run("run", random_start, start=tmp_path / "start.json")
    shutil.rmtree(tmp_path / "start")
    with pytest.raises(StudyError, match=r"model.safetensors: missing"):
        program.run("run", start=tmp_path / "start.json")
    assert not (tmp_path / "run").exists()
