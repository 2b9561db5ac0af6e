"""What `glossogenesis inspect` says of corpora, activations and autoencoders."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.content import KINDS, Inspection
from glossogenesis.inspection.page import inspect_path
from glossogenesis.sae.files import WEIGHTS_FILE, SaeFacts, write_sae
from glossogenesis.sae.quality import measure_quality
from glossogenesis.storage.activations.cache import purge_shards
from glossogenesis.storage.files import write_json
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table
from support.tiny_cache import D_MODEL, tiny_rows, write_tiny_caches
from support.tiny_corpus import tiny_corpus
from support.tiny_saes import random_sae

LANGUAGES = ("en", "ru")


def rows_of(inspection: Inspection, title: str) -> dict[str, tuple[str, ...]]:
    """The rows of a section's table by their first cell."""
    (section,) = (section for section in inspection.sections if section.title == title)
    return {row[0]: row[1:] for row in section.rows}


def text_of(inspection: Inspection, title: str) -> str:
    (section,) = (section for section in inspection.sections if section.title == title)
    return section.text


def autoencoder(folder: Path) -> Path:
    rate = {"learning_rate": 0.001, "loss": 0.25, "l0": 6.0}
    training = {"seed": 0, "steps": 312, "held_out": [rate, rate | {"learning_rate": 0.003}]}
    facts = SaeFacts("model.layers.3", "org/model", "0123", 4, "text", training)
    origin = Provenance("sae", "test", {}, {}, "c0de", model="tiny", layer=3)
    write_sae(folder, random_sae(D_MODEL, 8), facts, origin)
    return folder / "cfg.json"


def quality(path: Path) -> Path:
    rows = tiny_rows(20, seed=0)
    rows = replace(rows, languages=rows.languages % len(LANGUAGES))
    found = measure_quality(random_sae(D_MODEL, 8), [rows], LANGUAGES).to_json()
    origin = Provenance("quality", "test", {}, {}, "c0de", layer=3)
    write_json(path, found | {"provenance": asdict(origin)})
    return path


def test_activations_and_which_shards_are_on_disk(tmp_path: Path):
    (cache,) = write_tiny_caches(tmp_path, 3)
    seen = inspect_path(cache.manifest)
    assert seen.kind == KINDS["activations", ".json"]
    assert ("layer", "3") in seen.facts
    assert "hook: model.layers.3" in text_of(seen, "Contents")
    assert "shards" not in text_of(seen, "Contents")
    splits = rows_of(seen, "Splits")
    assert splits["train"][:2] == ("19", "3")
    assert splits["train"][-1] == "3 of 3 in place"
    shards = rows_of(seen, "Shards")
    assert len(shards) == 5
    rows, size, state, digest = shards["train_00002.safetensors"]
    assert rows == "5"
    assert size.endswith("kB") or size.endswith("bytes")
    assert state == "in place"
    assert re.fullmatch("[0-9a-f]{64}", digest)


def test_missing_cut_and_purged_shards(tmp_path: Path):
    (cache,) = write_tiny_caches(tmp_path, 3)
    folder = cache.manifest.parent
    (folder / "train_00001.safetensors").unlink()
    cut = folder / "held_out_00000.safetensors"
    cut.write_bytes(cut.read_bytes()[:-3])
    seen = inspect_path(cache.manifest)
    states = {file: row[2] for file, row in rows_of(seen, "Shards").items()}
    assert states["train_00000.safetensors"] == "in place"
    assert states["train_00001.safetensors"] == "missing"
    assert "bytes instead of" in states["held_out_00000.safetensors"]
    assert rows_of(seen, "Splits")["train"][-1] == "2 of 3 in place"
    assert rows_of(seen, "Splits")["held_out"][-1] == "1 of 2 in place"
    purge_shards(cache.manifest)
    purged = rows_of(inspect_path(cache.manifest), "Splits")
    assert purged["train"][-1].startswith("none; to have them again, delete this manifest")


def test_corpus(tmp_path: Path):
    corpus = tiny_corpus(tmp_path)
    seen = inspect_path(tmp_path / "manifest.json")
    assert seen.kind == KINDS["corpus", ".json"]
    assert "fill: padded" in text_of(seen, "Contents")
    facts = corpus.splits["held_out"]
    contexts, documents, tokens, *_, state = rows_of(seen, "Splits")["held_out"]
    assert (int(contexts), int(documents)) == (facts.contexts, facts.documents)
    assert tokens == f"en {facts.tokens['en']}, ru {facts.tokens['ru']}"
    assert state.endswith("in place")
    shards = rows_of(seen, "Shards")
    assert shards["vocabulary.parquet"][2] == "in place"
    shard = inspect_path(tmp_path / "train_00000.safetensors")
    assert shard.kind == KINDS["corpus", ".safetensors"]
    assert inspect_path(tmp_path / "vocabulary.parquet").kind == KINDS["corpus", ".parquet"]


def test_autoencoder_its_learning_rates_and_its_weights(tmp_path: Path):
    config = autoencoder(tmp_path / "topk")
    seen = inspect_path(config)
    assert seen.kind == KINDS["sae", ".json"]
    assert {("model", "tiny"), ("layer", "3"), ("code", "c0de")} <= set(seen.facts)
    assert "architecture: topk" in text_of(seen, "Contents")
    assert "model_from_pretrained_kwargs: {revision: '0123'}" in text_of(seen, "Metadata")
    assert "normalise: l2" in text_of(seen, "In the words of this program")
    assert "steps: 312" in text_of(seen, "Training")
    (rates,) = (part for part in seen.sections if part.title.startswith("Learning rates"))
    assert [dict(zip(rates.headers, row, strict=True))["learning_rate"] for row in rates.rows] == [
        "0.001",
        "0.003",
    ]
    assert rows_of(seen, "Weights")[WEIGHTS_FILE][1] == "in place"
    config.with_name(WEIGHTS_FILE).unlink()
    assert rows_of(inspect_path(config), "Weights")[WEIGHTS_FILE][1] == "missing"


def test_autoencoder_of_another_program(tmp_path: Path):
    path = tmp_path / "cfg.json"
    write_json(path, {"architecture": "topk", "k": 5, "metadata": {"sae_lens_version": "6.0"}})
    seen = inspect_path(path)
    assert ("provenance", "no provenance") in seen.facts
    assert "k: 5" in text_of(seen, "Contents")


def test_quality_of_all_tokens_beside_each_language(tmp_path: Path):
    path = quality(tmp_path / "quality.json")
    seen = inspect_path(path)
    assert seen.kind == KINDS["quality", ".json"]
    content = json.loads(path.read_text())
    parts = (content, *content["by_language"].values())
    measures = rows_of(seen, "Measures")
    assert measures["tokens"] == ("20", "10", "10")
    assert measures["l0"] == tuple(f"{part['l0']:.6g}" for part in parts)
    assert measures["dead_share"][1:] == ("", "")
    assert content["space"] in text_of(seen, "Contents")
    mean, *_, highest = rows_of(seen, "Latents")["encoder_decoder_cosine"]
    assert float(mean) < float(highest)
    filled = rows_of(seen, "Firing frequency")
    assert sum(int(row[0]) for row in filled.values()) == 8


def test_files_of_one_kind_are_distinguished_by_their_names(tmp_path: Path):
    origin = Provenance("features", "test", {}, {}, "c0de")
    for name in ("statistics", "examples", "sensitivity"):
        path = tmp_path / f"{name}.parquet"
        write_table(path, pl.DataFrame({"feature": [0]}), origin)
        assert inspect_path(path).kind == KINDS["features", path.name]


def test_folder_says_what_each_file_is(tmp_path: Path):
    write_tiny_caches(tmp_path / "activations", 3)
    autoencoder(tmp_path / "sae")
    quality(tmp_path / "sae" / "quality.json")
    kinds = {row[0] for row in inspect_path(tmp_path).sections[0].rows}
    assert kinds == {
        KINDS["activations", ".json"],
        KINDS["activations", ".safetensors"],
        KINDS["sae", ".json"],
        KINDS["sae", ".safetensors"],
        KINDS["quality", ".json"],
    }


@pytest.mark.parametrize("lacking", ["splits", "by_language"])
def test_damaged_manifest_is_one_clear_line(tmp_path: Path, lacking: str):
    kind = {"splits": "activations", "by_language": "quality"}[lacking]
    path = tmp_path / "manifest.json"
    write_json(path, {"l0": 8, "provenance": asdict(Provenance(kind, "test", {}, {}, "0"))})
    with pytest.raises(StudyError, match=f"damaged manifest .*{lacking}"):
        inspect_path(path)
