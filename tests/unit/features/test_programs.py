"""The programs of features, from files to files."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from glossogenesis.features.schemas import (
    EXAMPLES_SCHEMA,
    sensitivity_schema,
    statistics_schema,
)
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.sae.files import SaeFacts, write_sae
from glossogenesis.storage import tables, tensors
from support.planted_features import (
    LANGUAGES,
    ORIGIN,
    SCRIPTS,
    VOCABULARY,
    identity_sae,
    random_contexts,
    write_cache,
    write_corpus,
)
from support.tiny_checkpoint import save_tiny_checkpoint

SCRIPTS_FOLDER = Path(__file__).parents[3] / "workflow_scripts"
SETTINGS: dict[str, Any] = {
    "language": {"examples": 2},
    "seed": 0,
    "monosemanticity": {},
    "sensitivity": {"share": [0.6], "embedding": ["unembedding"]},
    "scripts": SCRIPTS,
}


def run(monkeypatch: pytest.MonkeyPatch, script: str, **options: Any) -> None:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    path = SCRIPTS_FOLDER / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--study=demo", *given])
    runpy.run_path(str(path), run_name="__main__")


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    contexts = random_contexts(30, 8)
    corpus = write_corpus(tmp_path / "corpus", contexts)
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(sum(map(len, contexts)), 6, generator=generator)
    cache = write_cache(tmp_path / "cache", corpus, activations)
    write_sae(tmp_path / "sae", identity_sae(6), SaeFacts.of_cache(cache, {}), ORIGIN)
    vectors = torch.randn(2, len(VOCABULARY), 4, generator=generator)
    embeddings = tmp_path / "tokens.safetensors"
    named = {"input": vectors[0], "unembedding": vectors[1]}
    tensors.write_tensors(embeddings, named, ORIGIN)
    return {
        "activations": cache.manifest,
        "corpus": corpus.folder / "manifest.json",
        "saes": tmp_path / "sae" / "sae_weights.safetensors",
        "embeddings": embeddings,
    }


def outputs(folder: Path) -> dict[str, Path]:
    return {
        "output": folder / "statistics.parquet",
        "examples": folder / "examples.parquet",
        "sensitivity_tables": folder / "sensitivity.parquet",
    }


def collect(
    monkeypatch: pytest.MonkeyPatch,
    inputs: dict[str, Path],
    folder: Path,
    settings: dict[str, Any],
    **more: Any,
) -> None:
    options = {"settings": json.dumps(settings), "threads": 1, "device": "cpu"}
    run(monkeypatch, "collect_features", **options, **inputs, **outputs(folder), **more)


def test_collect_features(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inputs: dict[str, Path]
) -> None:
    for name in ("a", "b"):
        collect(monkeypatch, inputs, tmp_path / name, SETTINGS)
    written = outputs(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "examples.parquet",
        "sensitivity.parquet",
        "statistics.parquet",
    ]
    schemas = (statistics_schema(LANGUAGES), EXAMPLES_SCHEMA, sensitivity_schema(LANGUAGES))
    for path, again, schema in zip(
        written.values(), outputs(tmp_path / "b").values(), schemas, strict=True
    ):
        assert tables.read_table(path).schema == schema
        assert path.read_bytes() == again.read_bytes()
        origin = tables.read_provenance(path)
        assert (origin.model, origin.checkpoint, origin.layer) == ("m", "c", 0)
        assert origin.facts["tokens"] == sum(origin.facts["tokens_by_language"].values())
    statistics = tables.read_table(written["output"])
    sensitivity = tables.read_table(written["sensitivity_tables"])
    assert sensitivity.height == 3
    counted = dict(statistics.group_by("language").len().rows())
    by_label = sensitivity["features_by_label"][0]
    assert {label: number for label, number in by_label.items() if number} == counted


def test_an_embedding_of_the_users_own(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "own.safetensors"
    settings = SETTINGS | {"monosemanticity": {"embedding": "own.safetensors"}}
    # With vectors that are all alike, every feature has one meaning.
    save_file({"embedding": torch.ones(len(VOCABULARY), 2)}, own)
    collect(monkeypatch, inputs, tmp_path / "a", settings, own_embedding=own)
    statistics = tables.read_table(tmp_path / "a" / "statistics.parquet")
    assert statistics["monosemanticity"].drop_nulls().unique().to_list() == [1.0]
    assert statistics.filter(pl.col("token_types") > 1).height
    save_file({"vectors": torch.ones(3, 2)}, own)
    with pytest.raises(SystemExit):
        collect(monkeypatch, inputs, tmp_path / "b", settings, own_embedding=own)
    assert "own.safetensors: holds no tensor `embedding`" in capsys.readouterr().err
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize("tied", [False, True])
def test_extract_embeddings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tied: bool) -> None:
    folder = save_tiny_checkpoint(tmp_path / "model")
    if tied:
        tie(folder)
    manifest = describe_checkpoint(
        CheckpointLocation(str(folder)),
        model="m",
        checkpoint="c",
        source=str(folder),
        provenance=asdict(ORIGIN),
    )
    manifest.write(tmp_path / "manifest.json")
    output = tmp_path / "tokens.safetensors"
    options = {"checkpoint": tmp_path / "manifest.json", "output": output}
    run(monkeypatch, "extract_embeddings", settings='{"dtype": "float32"}', **options)
    vectors = tensors.read_tensors(output, ["input", "unembedding"])
    model: Any = load_model(manifest.location, device="cpu").model
    assert torch.equal(vectors["input"], model.get_input_embeddings().weight)
    assert torch.equal(vectors["unembedding"], model.get_output_embeddings().weight)
    assert torch.equal(vectors["input"], vectors["unembedding"]) == tied
    origin = tensors.read_provenance(output)
    assert origin.facts["tokenizer_digest"] == manifest.tokenizer_digest


def tie(folder: Path) -> None:
    from support.tiny_models import tiny_model

    tiny_model("llama", tie_word_embeddings=True).save_pretrained(folder)


def test_features_need_no_language_model() -> None:
    code = "import sys, collect_features; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS_FOLDER)
