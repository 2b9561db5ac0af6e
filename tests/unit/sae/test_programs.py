"""The two programs that train autoencoders, from a checkpoint and a corpus to their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import extract_activations
import stream_saes
import train_saes
from glossogenesis.exceptions import StudyError
from glossogenesis.sae.files import read_config, read_own_facts, read_sae
from glossogenesis.storage import tables, tensors
from glossogenesis.study.features import SaeTraining
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import save_tiny_checkpoint, write_manifest
from support.tiny_corpus import tiny_corpus

LAYERS = (0, 2)
FILES = {"cfg.json", "sae_weights.safetensors", "training.parquet"}
SAE = SaeTraining(latents=64, k=4, batch_size=32, epochs=2, learning_rates=(1e-2, 1e-3))


class Study:
    """Runs programs on a tiny checkpoint and corpus, each activations mode in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        weights = save_tiny_checkpoint(folder / "weights")
        manifest = write_manifest(folder / "checkpoint.json", weights)
        tiny_corpus(folder / "corpus", tokenizer_digest=manifest.tokenizer_digest)
        self._model = {
            "checkpoint": folder / "checkpoint.json",
            "corpus": folder / "corpus" / "manifest.json",
            "batch-size": 4,
        }

    def extract(self, mode: str) -> None:
        settings = {"corpus": "text", "seed": 3, **self._model_settings(mode)}
        self._run(
            extract_activations,
            settings,
            **self._model,
            output=self.folder / mode,
        )

    def train_from_cache(
        self, layers: tuple[int, ...] = LAYERS, mode: str = "cache", to: str = "from_cache"
    ) -> Path:
        self._run(
            train_saes,
            {"sae": SAE.model_dump(), "seed": 1, "on_diverged": "leave_out"},
            **self._layers(layers, mode, to),
        )
        return self.folder / to

    def train_from_model(
        self, layers: tuple[int, ...] = LAYERS, to: str = "from_model", **options: Any
    ) -> Path:
        settings = {"sae": SAE.model_dump(), "seed": 1, **self._model_settings("stream")}
        del settings["layers"]
        self._run(
            stream_saes, settings, **self._model, **self._layers(layers, "stream", to) | options
        )
        return self.folder / to

    def weights(self, layers: tuple[int, ...], to: str) -> list[Path]:
        folders = (self.folder / to / f"layer_{layer}" / "main" for layer in layers)
        return [folder / "sae_weights.safetensors" for folder in folders]

    def _layers(self, layers: tuple[int, ...], mode: str, to: str) -> dict[str, Any]:
        caches = (self.folder / mode / f"layer_{layer}" for layer in layers)
        return {
            "activations": [folder / "manifest.json" for folder in caches],
            "resume-dir": self.folder / "resume",
            "output": self.weights(layers, to),
        }

    def _model_settings(self, mode: str) -> dict[str, Any]:
        activations = {"mode": mode, "dtype": "bfloat16", "window": 40, "not_finite": "stop"}
        return {
            "layers": LAYERS,
            "dtype": "float32",
            "activations": activations,
            "on_diverged": "leave_out",
        }

    def _run(self, program: Any, settings: Any, **options: Any) -> None:
        run_main(program, settings, **ON_CPU | options)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_both_write_the_same_autoencoders(study: Study) -> None:
    study.extract("cache")
    study.extract("stream")
    assert not list((study.folder / "stream").glob("*/train_*"))
    study.train_from_model()
    study.train_from_cache()
    for first_weights, other_weights in zip(
        study.weights(LAYERS, "from_cache"), study.weights(LAYERS, "from_model"), strict=True
    ):
        cached, other = first_weights.parent, other_weights.parent
        assert {path.name for path in cached.iterdir()} == FILES
        assert {path.name for path in other.iterdir()} == FILES
        first, second = read_sae(cached), read_sae(other)
        for name, parameter in first.named_parameters():
            assert torch.equal(parameter, second.get_parameter(name)), name
        table = pl.read_parquet(cached / "training.parquet")
        assert table.equals(pl.read_parquet(other / "training.parquet"))
        assert read_own_facts(cached)["training"] == read_own_facts(other)["training"]
    assert not (study.folder / "resume").exists()


def test_the_files_say_what_they_are(study: Study) -> None:
    study.extract("cache")
    folder = study.train_from_cache((2,)) / "layer_2" / "main"
    config = read_config(folder)
    assert config["metadata"]["hook_name"] == "model.layers.2"
    assert config["metadata"]["model_name"] == str(study.folder / "weights")
    for provenance in (
        tables.read_provenance(folder / "training.parquet"),
        tensors.read_provenance(folder / "sae_weights.safetensors"),
    ):
        assert (provenance.kind, provenance.model, provenance.checkpoint) == (
            "sae",
            "tiny",
            "step1",
        )
        assert (provenance.layer, provenance.seed, provenance.dtype) == (2, 1, "float32")
        assert provenance.settings["sae"]["latents"] == 64
        assert set(provenance.inputs) == {"activations"}
        assert len(provenance.facts["held_out"]) == 2


def test_a_warm_start_is_an_input(study: Study) -> None:
    study.extract("stream")
    study.train_from_model()
    study.train_from_model(to="warm", warm_start=study.weights(LAYERS, "from_model"))
    provenance = tables.read_provenance(study.folder / "warm/layer_2/main/training.parquet")
    assert {"warm_start_0", "warm_start_2"} <= set(provenance.inputs)
    assert provenance.facts["warm_start"] == "step1"


def test_a_layer_without_activations_is_refused(study: Study) -> None:
    study.extract("stream")
    with pytest.raises(StudyError, match=r"layer_1/manifest.json: no such cache among layer_0"):
        study.train_from_model(layers=(0, 1))
    with pytest.raises(StudyError, match=r"holds no 'train' activations.*mode: cache"):
        study.train_from_cache((0,), mode="stream")
