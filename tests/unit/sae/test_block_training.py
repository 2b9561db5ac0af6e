"""A block of layers in one job: each as if it were alone, and none trained twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cached_activations import write_cache
from cached_jobs import PROVENANCE, bytes_of, job
from glossogenesis.errors import StudyError
from glossogenesis.sae.block_training import train_block
from glossogenesis.sae.cached_training import CachedTraining
from glossogenesis.sae.training import TrainingRun
from planted_dictionary import planted

LAYERS = (1, 3, 5)

Block = Callable[..., list[CachedTraining]]
"""Returns the jobs of some layers that write to a folder."""


def cache_of(folder: Path, layer: int) -> Path:
    """Each layer's activations are other rows of the same."""
    rows = planted(n_features=32, d_model=16, active=3, rows=1200).activations.roll(layer, 1)
    return write_cache(folder, rows[:900], rows[900:], layer=layer)


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    caches = tmp_path_factory.mktemp("caches")
    manifests = {layer: cache_of(caches, layer) for layer in LAYERS}

    def jobs(folder: Path, layers: tuple[int, ...] = LAYERS) -> list[CachedTraining]:
        return [
            job(
                folder / str(layer),
                manifests[layer],
                resume_folder=folder / "resume" / f"layer_{layer}",
                provenance=replace(PROVENANCE, layer=layer),
            )
            for layer in layers
        ]

    return jobs


@pytest.fixture
def trained_layers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Layers that take their first step, as they do."""
    started: list[str] = []
    step = TrainingRun.step

    def counted(run: TrainingRun, batch: torch.Tensor) -> None:
        if not run.steps_done:
            started.append(run.plan.described_as.rpartition(" ")[2])
        step(run, batch)

    monkeypatch.setattr(TrainingRun, "step", counted)
    return started


def test_each_layer_has_the_bytes_of_a_job_of_its_own(tmp_path: Path, block: Block) -> None:
    train_block(block(tmp_path / "block"), tmp_path / "block" / "resume", device="cpu")
    for layer in LAYERS:
        alone = tmp_path / "alone" / str(layer)
        train_block(block(alone, (layer,)), alone / "resume", device="cpu")
        written = bytes_of(tmp_path / "block" / str(layer))
        assert written.keys() == {"cfg.json", "sae_weights.safetensors", "training.parquet"}
        assert written == bytes_of(alone / str(layer))
    assert not (tmp_path / "block" / "resume").exists()


def test_a_layer_more_trains_that_layer_alone(
    tmp_path: Path, block: Block, trained_layers: list[str]
) -> None:
    train_block(block(tmp_path, (1, 5)), tmp_path / "resume", device="cpu")
    before = {layer: bytes_of(tmp_path / str(layer)) for layer in (1, 5)}
    train_block(block(tmp_path), tmp_path / "resume", device="cpu")
    assert trained_layers == ["1", "5", "3"]
    assert {layer: bytes_of(tmp_path / str(layer)) for layer in (1, 5)} == before
    assert len(bytes_of(tmp_path / "3")) == 3


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors", "training.parquet"])
def test_a_layer_whose_files_are_damaged_or_of_another_training_is_trained(
    tmp_path: Path, block: Block, trained_layers: list[str], name: str
) -> None:
    (one,) = block(tmp_path, (1,))
    train_block([one], tmp_path / "resume", device="cpu")
    file = one.folder / name
    whole = file.read_bytes()
    for damaged in (whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], b""):
        file.write_bytes(damaged)
        train_block([one], tmp_path / "resume", device="cpu")
        assert file.read_bytes() == whole
    file.unlink()
    train_block([one], tmp_path / "resume", device="cpu")
    assert trained_layers == ["1"] * 4
    changed = replace(one, provenance=replace(one.provenance, inputs={"warm_start": "0"}))
    train_block([changed], tmp_path / "resume", device="cpu")
    assert trained_layers == ["1"] * 5
    assert file.read_bytes() != whole


def test_a_bad_layer_names_itself_and_those_before_it_are_kept_for_the_next_start(
    tmp_path: Path, block: Block, trained_layers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingRun.step

    def bad(run: TrainingRun, batch: torch.Tensor) -> None:
        is_bad = run.plan.described_as.endswith("layer 3")
        step(run, batch * float("nan") if is_bad else batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "step", bad)
        with pytest.raises(StudyError, match=r"tiny, checkpoint 100, layer 3: activations are NaN"):
            train_block(block(tmp_path / "block"), tmp_path / "block" / "resume", device="cpu")
    # A job that failed has written nothing, so Snakemake has nothing to delete.
    assert not (tmp_path / "block" / "1").exists()
    train_block(block(tmp_path / "block"), tmp_path / "block" / "resume", device="cpu")
    assert trained_layers == ["1", "3", "3", "5"]
    train_block(block(tmp_path / "whole"), tmp_path / "whole" / "resume", device="cpu")
    for layer in LAYERS:
        assert bytes_of(tmp_path / "block" / str(layer)) == bytes_of(
            tmp_path / "whole" / str(layer)
        )
    assert not (tmp_path / "block" / "resume").exists()
