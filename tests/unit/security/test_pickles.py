"""No pickle is opened, wherever somebody put one and whatever it is called."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from glossogenesis.corpora.documents import texts_in
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.posts import read_posts, read_spellings
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.page import inspect_path
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from glossogenesis.robustness.finetuning import Device, TrainedEpoch, finetune
from glossogenesis.robustness.posts import read_post_file
from glossogenesis.sae.files import read_sae
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.tables import read_table
from glossogenesis.storage.tensors import ResumeState, read_tensors
from glossogenesis.study.loading import load_study
from glossogenesis.study.robustness import ClassifierSettings, PostFiles
from glossogenesis.study.sheet import read_sheet
from support.hostile_content import assert_one_line
from support.hostile_pickles import PICKLES
from support.separable_posts import save_tiny_model, separable_posts, tiny_fresh_classifier


def test_the_traps_close_when_they_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests below can fail: these pickles do leave their mark."""
    # What loads COMET sets it for its process.
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    plain, zipped = (pickled(tmp_path / "mark") for pickled in PICKLES)
    pickle.loads(plain)
    assert (tmp_path / "mark").exists()
    (tmp_path / "mark").unlink()
    (tmp_path / "x.pt").write_bytes(zipped)
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "mark").exists()


def load(folder: Path) -> None:
    location = CheckpointLocation(str(folder))
    describe_checkpoint(location, model="m", checkpoint="c", source="s", provenance={})
    load_tokenizer(location)
    load_model(location, device="cpu")


def tried(use: Callable[[Path], object], path: Path) -> str | None:
    """Use a file; return the line by which it was refused, None where it was not."""
    try:
        use(path)
    except StudyError as error:
        assert_one_line(error)
        return str(error)
    return None


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pkl",
        "optimizer.pt",
        "training_args.bin",
        "rng_state.pth",
        "scaler.pt",
        "adapter_model.bin",
        "tokenizer.pkl",
        "merges.txt",
        "x.npy",
    ],
)
def test_pickles_beside_good_weights_are_left_alone(
    weights: Path, tmp_path: Path, name: str, pickled: Callable[[Path], bytes]
) -> None:
    (weights / name).write_bytes(pickled(tmp_path / "mark"))
    assert tried(load, weights) is None
    assert tried(inspect_path, weights) is None
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pth",
        "model.pkl",
        "model.ckpt",
        "model.bin",
        "model.safetensors",
        "model-00001-of-00001.safetensors",
    ],
)
def test_weights_that_are_pickles_are_refused(
    weights: Path, tmp_path: Path, name: str, pickled: Callable[[Path], bytes]
) -> None:
    (weights / "model.safetensors").unlink()
    (weights / name).write_bytes(pickled(tmp_path / "mark"))
    refused = tried(load, weights)
    assert refused is not None
    assert "weights" in refused
    tried(inspect_path, weights)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "tokenizer.model",
        "vocab.json",
        "model.safetensors.index.json",
        "chat_template.jinja",
    ],
)
@pytest.mark.parametrize("alone", [False, True], ids=["beside", "alone"])
def test_settings_and_tokenizers_that_are_pickles_are_not_opened(
    weights: Path, tmp_path: Path, name: str, pickled: Callable[[Path], bytes], alone: bool
) -> None:
    if alone:
        (weights / "tokenizer.json").unlink()
    (weights / name).write_bytes(pickled(tmp_path / "mark"))
    refused = tried(load, weights)
    tried(inspect_path, weights / name)
    assert not (tmp_path / "mark").exists()
    assert refused is not None or name not in ("config.json", "model.safetensors.index.json")


POSTS = PostFiles(kind="files", files=("posts",))
READERS: dict[str, Callable[[Path], object]] = {
    "text.jsonl": lambda path: list(texts_in(path)),
    "text.parquet": lambda path: list(texts_in(path)),
    "text.txt": lambda path: list(texts_in(path)),
    "posts.tsv": lambda path: read_post_file(path, POSTS),
    "posts.jsonl": lambda path: read_post_file(path, POSTS),
    "posts.parquet": lambda path: read_post_file(path, POSTS),
    "prepared.parquet": read_posts,
    "spellings.tsv": read_spellings,
    "sheet.tsv": read_sheet,
    "study.yaml": load_study,
    "lexicon.tsv": lambda path: read_lexicon(path, format="tsv", languages=["en"]),
    "lexicon.csv": lambda path: read_lexicon(path, format="multisimlex", languages=["en"]),
    "table.parquet": read_table,
    "tensors.safetensors": read_tensors,
    "manifest.json": CheckpointManifest.read,
    "corpus/manifest.json": TokenisedCorpus.read,
    "cache/manifest.json": ActivationCache.open,
    "sae/cfg.json": lambda path: read_sae(path.parent),
    "shown.csv": inspect_path,
    "shown.parquet": inspect_path,
    "shown.safetensors": inspect_path,
    "shown.json": inspect_path,
    "shown.pkl": inspect_path,
    "shown.pt": inspect_path,
}


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize("name", READERS)
def test_a_pickle_under_another_name_is_refused(
    tmp_path: Path, name: str, pickled: Callable[[Path], bytes]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickled(tmp_path / "mark"))
    refused = tried(READERS[name], path)
    assert not (tmp_path / "mark").exists()
    # As a table of numbers, any bytes can be shown.
    assert name == "shown.csv" or (refused is not None and path.name in refused)


@pytest.mark.parametrize("pickled", PICKLES)
def test_a_state_of_training_that_is_a_pickle_counts_as_none(
    tmp_path: Path, pickled: Callable[[Path], bytes]
) -> None:
    state = ResumeState(tmp_path, "0")
    state.path.parent.mkdir()
    state.path.write_bytes(pickled(tmp_path / "mark"))
    assert state.load() is None
    assert not (tmp_path / "mark").exists()


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("pickled", PICKLES)
def test_a_state_of_fine_tuning_is_read_as_weights_alone(
    tmp_path: Path, pickled: Callable[[Path], bytes]
) -> None:
    """transformers' Trainer keeps its state in files of torch, and opens them without code."""
    posts = separable_posts(8)
    location = save_tiny_model(tmp_path / "model")

    def train(on_epoch: Callable[[TrainedEpoch], object]) -> None:
        finetune(
            tiny_fresh_classifier(location),
            posts,
            posts,
            ClassifierSettings(epochs=2, batch_size=8),
            seed=0,
            device=Device("cpu", "float32", evaluation_batch=8),
            state_folder=tmp_path / "state",
            on_epoch=on_epoch,
        )

    def stop(epoch: TrainedEpoch) -> None:
        if epoch.epoch == 2:
            raise _StoppedError

    with suppress(_StoppedError):
        train(stop)
    kept = [
        path for suffix in ("pt", "pth", "bin") for path in tmp_path.rglob(f"state/**/*.{suffix}")
    ]
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth"} <= {path.name for path in kept}
    for path in kept:
        good = path.read_bytes()
        path.write_bytes(pickled(tmp_path / "mark"))
        # A damaged state may stop the job; it runs nothing.
        with suppress(Exception):
            train(stop)
        assert not (tmp_path / "mark").exists(), path.name
        path.write_bytes(good)
