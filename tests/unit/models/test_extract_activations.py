"""The program that writes activation caches, on a tiny checkpoint and corpus."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import extract_activations
from glossogenesis.exceptions import StudyError
from glossogenesis.models import residuals
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.storage.activations.cache import ActivationCache, purge_shards
from support.bar_clock import BarClock, lines_of
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import save_tiny_checkpoint, write_manifest
from support.tiny_corpus import tiny_corpus

LAYERS = [0, 2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def write_inputs(folder: Path) -> dict[str, Path]:
    """Manifests of a checkpoint and of a corpus."""
    weights = save_tiny_checkpoint(folder / "weights")
    manifest = write_manifest(folder / "checkpoint.json", weights)
    tiny_corpus(folder / "corpus", tokenizer_digest=manifest.tokenizer_digest)
    return {
        "checkpoint": folder / "checkpoint.json",
        "corpus": folder / "corpus" / "manifest.json",
    }


@pytest.fixture
def extract(inputs: dict[str, Path], tmp_path: Path) -> Any:
    """Runs the program into `tmp_path`; `changes` are of the section `features.activations`."""

    def run(
        layers: list[int] = LAYERS,
        paths: Any = inputs,
        on_diverged: str = "leave_out",
        **changes: Any,
    ) -> None:
        activations = {"mode": "cache", "dtype": "bfloat16", "window": 40, "not_finite": "stop"}
        settings = {
            "layers": layers,
            "dtype": "float32",
            "corpus": "tiny",
            "seed": 0,
            "on_diverged": on_diverged,
            "activations": activations | changes,
        }
        run_main(extract_activations, settings, **paths, **ON_CPU, batch_size=4, output=tmp_path)

    return run


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def open_layer(folder: Path, layer: int) -> ActivationCache:
    return ActivationCache.open(folder / f"layer_{layer}" / "manifest.json")


def test_writes_a_cache_a_layer(
    extract: Any, inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract()
    checkpoint = CheckpointManifest.read(inputs["checkpoint"])
    for layer in LAYERS:
        cache = open_layer(tmp_path, layer)
        assert (cache.model, cache.checkpoint, cache.corpus) == ("tiny", "step1", "tiny")
        assert (cache.layer, cache.hook) == (layer, f"model.layers.{layer}")
        assert cache.source == checkpoint.folder
        assert cache.tokenizer_digest == checkpoint.tokenizer_digest
        assert cache.provenance["layer"] == layer
        assert len(list(cache.shards("train"))) > 1
    rows = {split: open_layer(tmp_path, 0).rows_in(split) for split in ("train", "held_out")}
    assert (
        f"2 layers, tokens of each: {rows['held_out']} held_out, {rows['train']} train; 0 dr"
        in (capsys.readouterr().out)
    )
    tokens = [
        torch.cat([rows.token_ids for rows in open_layer(tmp_path, layer).shards("train")])
        for layer in LAYERS
    ]
    assert torch.equal(*tokens)


def test_remaking_a_purged_cache_gives_equal_bytes(extract: Any, tmp_path: Path) -> None:
    extract()
    before = contents_of(tmp_path)
    for layer in LAYERS:
        purge_shards(tmp_path / f"layer_{layer}" / "manifest.json")
    assert contents_of(tmp_path).keys() == {f"layer_{n}/manifest.json" for n in LAYERS}
    extract()
    assert contents_of(tmp_path) == before


def test_another_layer_leaves_the_caches_of_the_others_as_they_are(
    extract: Any, tmp_path: Path
) -> None:
    extract([2])
    before = contents_of(tmp_path)
    extract([0, 2, 3])
    after = contents_of(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == 3 * len(before)


def test_streaming_writes_held_out_activations_alone(extract: Any, tmp_path: Path) -> None:
    extract()
    held_out = {name for name in contents_of(tmp_path) if "held_out" in name}
    extract(mode="stream")
    cache = open_layer(tmp_path, 2)
    assert list(cache.splits) == ["held_out"]
    assert contents_of(tmp_path).keys() == held_out | {f"layer_{n}/manifest.json" for n in LAYERS}
    with pytest.raises(StudyError, match="holds no 'train' activations, only held_out; set"):
        next(cache.shards("train"))


def test_a_corpus_of_another_tokenizer(
    extract: Any, inputs: dict[str, Path], tmp_path: Path
) -> None:
    other = replace(CheckpointManifest.read(inputs["checkpoint"]), tokenizer_digest="other")
    other.write(tmp_path / "other.json")
    with pytest.raises(StudyError, match=r"another tokenizer than that of .* step1"):
        extract(paths=inputs | {"checkpoint": tmp_path / "other.json"})
    assert not list(tmp_path.glob("layer_*"))


def test_activations_that_would_not_fit_the_disk(
    extract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract()
    held = sum(len(text) for name, text in contents_of(tmp_path).items() if ".safe" in name)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StudyError) as error:
        extract()
    message = str(error.value)
    assert "GB of activations do not fit into the 0.00 GB that are free. Free some" in message
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=held))
    extract()


def test_the_bar_moves_while_a_window_is_computed(
    extract: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One window holds everything, and each of its six forward passes takes four seconds."""
    clock, scatter = BarClock(monkeypatch), residuals.scatter_residuals

    def slow(*arguments: Any) -> bool:
        clock.sleep(4)
        return scatter(*arguments)

    monkeypatch.setattr(residuals, "scatter_residuals", slow)
    extract(window=10_000)
    lines = lines_of(capsys.readouterr().err, "train tokens")
    assert [past for _, past, _ in lines] == [0, 8, 16, 24]
    assert [percent for percent, _, _ in lines] == sorted({percent for percent, _, _ in lines})
    assert lines[-1][0] == 100


def test_the_bar_of_a_resumed_run_leaves_out_finished_windows(
    extract: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passes, scatter = iter(range(100)), residuals.scatter_residuals

    def stopped(*arguments: Any) -> bool:
        if next(passes) == 8:
            raise KeyboardInterrupt
        return scatter(*arguments)

    monkeypatch.setattr(residuals, "scatter_residuals", stopped)
    with pytest.raises(KeyboardInterrupt):
        extract()
    capsys.readouterr()
    extract()
    lines = lines_of(capsys.readouterr().err, "train tokens")
    assert 0 < lines[0][0] < 100
    assert lines[-1][0] == 100


def with_nan_tokens(weights: Path, share: float) -> None:
    """The vectors of some of the tokens are NaN."""
    model: Any = AutoModelForCausalLM.from_pretrained(weights)
    vectors = model.get_input_embeddings().weight.data
    vectors[3 : 3 + round(share * len(vectors))] = torch.nan
    model.save_pretrained(weights)


def test_some_bad_tokens_are_dropped(extract: Any, tmp_path: Path) -> None:
    paths = write_inputs(tmp_path / "inputs")
    with_nan_tokens(tmp_path / "inputs" / "weights", 0.03)
    write_manifest(paths["checkpoint"], tmp_path / "inputs" / "weights")
    extract(paths=paths, not_finite="drop")
    cache = open_layer(tmp_path, LAYERS[0])
    assert 0 < cache.dropped_rows < cache.rows_in("train")


def test_a_diverged_checkpoint_leaves_empty_caches_in_place_of_old_ones(
    extract: Any, tmp_path: Path
) -> None:
    paths = write_inputs(tmp_path / "inputs")
    extract(paths=paths)
    with_nan_tokens(tmp_path / "inputs" / "weights", 0.9)
    write_manifest(paths["checkpoint"], tmp_path / "inputs" / "weights")
    extract(paths=paths, not_finite="drop")
    for layer in LAYERS:
        cache = open_layer(tmp_path, layer)
        assert cache.splits == {}
        assert "activations of most held_out tokens" in cache.provenance["facts"]["left_out"]
        assert [path.name for path in cache.manifest.parent.iterdir()] == ["manifest.json"]
    with pytest.raises(StudyError, match="tiny step1: activations of most held_out tokens are NaN"):
        extract(paths=paths, on_diverged="stop", not_finite="drop")
