"""A block of layers in one job: each as if it were alone, and none trained twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.jobs import CachedTraining, train_block
from glossogenesis.sae.training import TrainingRun
from support.cached_activations import write_cache
from support.cached_jobs import PROVENANCE, bytes_of, job
from support.planted_dictionary import planted

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


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors", "training.parquet"])
def test_a_finished_layer_is_taken_up_only_whole_and_of_the_same_training(
    tmp_path: Path, block: Block, trained_layers: list[str], name: str
) -> None:
    (one,) = block(tmp_path, (1,))
    waiting = one.resume_folder

    def resume(job: CachedTraining) -> None:
        waiting.parent.mkdir(exist_ok=True)
        one.folder.rename(waiting)
        train_block([job], waiting.parent, device="cpu")

    train_block([one], waiting.parent, device="cpu")
    whole = (one.folder / name).read_bytes()
    resume(one)
    assert trained_layers == ["1"]
    for damaged in (whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], b""):
        (one.folder / name).write_bytes(damaged)
        resume(one)
        assert (one.folder / name).read_bytes() == whole
    (one.folder / name).unlink()
    resume(one)
    assert trained_layers == ["1"] * 4
    resume(replace(one, provenance=replace(one.provenance, inputs={"warm_start": "0"})))
    assert trained_layers == ["1"] * 5
    assert (one.folder / name).read_bytes() != whole


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
