"""The program of label features, from files to files."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from glossogenesis.robustness.cues import CUES_SCHEMA
from glossogenesis.robustness.label_tables import (
    FEATURES_SCHEMA,
    LABELS_SCHEMA,
    POST_FEATURES_SCHEMA,
)
from glossogenesis.sae.files import SaeFacts, write_sae
from glossogenesis.storage.files import read_json, write_json
from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.storage.tables import read_provenance, read_table
from support.planted_features import ORIGIN
from support.planted_posts import plant_posts
from support.tiny_saes import random_sae

SCHEMAS = {
    "labels": LABELS_SCHEMA,
    "features": FEATURES_SCHEMA,
    "cues": CUES_SCHEMA,
    "posts": POST_FEATURES_SCHEMA,
}
SETTINGS: dict[str, Any] = {
    "label_features": {"threshold": 0.5, "top": 3, "shuffles": 2, "resamples": 5},
    "seed": 3,
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    generator = torch.Generator().manual_seed(0)
    labels = ["cars", "food", "pets"] * 5
    token_ids = [[1 + (number + place) % 9 for place in range(5)] for number in range(15)]
    activations = [torch.randn(5, 6, generator=generator) for _ in labels]
    planted = plant_posts(tmp_path / "inputs", labels, token_ids, activations)
    sae = random_sae(6, 12, architecture="relu")
    origin = replace(ORIGIN, model="m", checkpoint="c", layer=0)
    write_sae(tmp_path / "inputs" / "sae", sae, SaeFacts.of_cache(planted.cache, {}), origin)
    return {
        "activations": planted.cache.manifest,
        "saes": tmp_path / "inputs" / "sae" / "sae_weights.safetensors",
        "corpus": planted.corpus.folder / "manifest.json",
        "posts": planted.posts.path,
    }


def collect(monkeypatch: pytest.MonkeyPatch, inputs: dict[str, Path], folder: Path) -> None:
    options = {
        "study": "test",
        "settings": json.dumps(SETTINGS),
        "threads": torch.get_num_threads(),
        "device": "cpu",
        **inputs,
        "output": folder / "labels.parquet",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    script = SCRIPTS / "collect_label_features.py"
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    runpy.run_path(str(script), run_name="__main__")


def test_writes_four_tables_that_are_equal_in_every_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inputs: dict[str, Path]
) -> None:
    for run in ("a", "b"):
        collect(monkeypatch, inputs, tmp_path / run)
    assert sorted(path.stem for path in (tmp_path / "a").iterdir()) == sorted(SCHEMAS)
    for name, schema in SCHEMAS.items():
        path = tmp_path / "a" / f"{name}.parquet"
        assert read_table(path).schema == schema
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        origin = read_provenance(path)
        assert (origin.kind, origin.model, origin.checkpoint) == ("label_features", "m", "c")
        assert (origin.layer, origin.seed, origin.settings) == (0, 3, SETTINGS)
        assert origin.inputs.keys() == {"activations", "sae", "corpus", "posts"}
    facts = read_provenance(tmp_path / "a" / "posts.parquet").facts
    features = read_table(tmp_path / "a" / "features.parquet")
    assert facts["distinguishing"] == features.filter(pl.col("variety") > 0).height > 0
    assert facts["mean_variety_low"] <= facts["mean_variety_high"]
    assert facts["shuffled"].keys() == {"label_specific_share", "mean_variety"}


def test_an_autoencoder_of_another_layer(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = inputs["saes"].parent / "cfg.json"
    written = read_json(config)
    written["metadata"]["glossogenesis"]["provenance"]["layer"] = 4
    write_json(config, written, seal_in=("metadata", "glossogenesis"))
    with pytest.raises(SystemExit):
        collect(monkeypatch, inputs, tmp_path / "a")
    assert "an autoencoder of layer 4, but layer 0 is measured" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_label_features_need_no_language_model() -> None:
    code = "import sys, collect_label_features; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS)
