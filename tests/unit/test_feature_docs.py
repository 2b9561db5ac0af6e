"""The guide names every field, tensor and figure of the features study, with its type."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from glossogenesis.corpora.tokenised import BLOCK_TENSORS
from glossogenesis.features import schemas
from glossogenesis.inspection.columns import table_meanings
from glossogenesis.inspection.content import KINDS
from glossogenesis.sae.files import CONFIG_FILE, WEIGHTS_FILE, SaeFacts, write_sae
from glossogenesis.sae.jobs import training_facts
from glossogenesis.sae.quality import measure_quality
from glossogenesis.sae.training import HeldOutFacts, TrainedAutoencoder, TrainingPlan
from glossogenesis.storage.provenance import METADATA_KEY, Provenance
from glossogenesis.study.features import SaeTraining
from glossogenesis.workflow.figures import FIGURES
from support.guide import DOCS, REPOSITORY, table_below
from support.tiny_cache import D_MODEL, tiny_rows, write_tiny_caches
from support.tiny_corpus import tiny_corpus
from support.tiny_saes import random_sae

PAGE = "feature_artifacts.md"
LANGUAGES = ("en", "ru")
PROVENANCE = Provenance("sae", "test", {}, {}, "0")


def json_type(value: Any) -> str:
    """What the guide calls the type of a JSON value."""
    kinds = {bool: "boolean", dict: "object", list: "list", str: "text", type(None): "null"}
    return kinds.get(type(value), "number")


def check_fields(marker: str, *values: Mapping[str, Any]) -> None:
    """Compare the fields of JSON objects of one kind, all together, with their table."""
    rows = table_below(PAGE, f"fields: {marker}")
    assert set(rows) == set().union(*values), marker
    for content in values:
        for name, value in content.items():
            allowed = rows[name][0].split(" or ")
            assert json_type(value) in allowed, f"{marker}, {name}: {json_type(value)}"
    assert all(row[1] for row in rows.values()), f"{marker}: a field without a meaning"


def check_tensors(marker: str, path: Path, *, absent: tuple[str, ...] = ()) -> None:
    """Compare the names, number formats and axes of a file's tensors with their table."""
    tensors = load_file(path)
    rows = table_below(PAGE, f"fields: {marker}")
    assert set(rows) == {*tensors, *absent}, marker
    for name, tensor in tensors.items():
        dtype, shape, meaning = rows[name]
        assert f"torch.{dtype}" == str(tensor.dtype), f"{marker}, {name}"
        assert len(shape.strip("[]").split(", ")) == tensor.ndim, f"{marker}, {name}"
        assert meaning


def test_structs_have_the_fields_that_the_guide_says() -> None:
    labels = (*LANGUAGES, *schemas.NOT_LANGUAGES)
    by_schema = schemas.statistics_schema(LANGUAGES) | schemas.sensitivity_schema(LANGUAGES)
    fields_of = {
        name: tuple(field.name for field in dtype.fields)
        for name, dtype in by_schema.items()
        if isinstance(dtype, pl.Struct)
    }
    assert fields_of == {
        "firing_by_language": LANGUAGES,
        "share_by_language": LANGUAGES,
        "features_by_label": labels,
        "monosemanticity_by_label": (*LANGUAGES, schemas.BILINGUAL, schemas.MIXED),
    }
    meaning = table_meanings()["features/statistics.parquet"].columns["top_tokens"]
    assert all(f"`{field.name}`" in meaning for field in schemas.TOP_TOKEN.fields)
    guide = (DOCS / PAGE).read_text(encoding="utf-8")
    assert all(f"`{label}`" in guide for label in schemas.NOT_LANGUAGES)


def test_corpus(tmp_path: Path):
    corpus = tiny_corpus(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    check_fields("corpus manifest", content)
    check_fields("split of a corpus", *content["splits"].values())
    shard = content["splits"]["train"]["shards"][0]
    meaning = table_below(PAGE, "fields: split of a corpus")["shards"][1]
    assert all(f"`{name}`" in meaning for name in shard)
    check_tensors("tensors of a corpus", corpus.folder / shard["file"])
    assert set(load_file(corpus.folder / shard["file"])) == set(BLOCK_TENSORS)


def test_activations(tmp_path: Path):
    (cache,) = write_tiny_caches(tmp_path, 3)
    content = json.loads(cache.manifest.read_text())
    check_fields("activation manifest", content)
    shard = content["splits"]["held_out"]["shards"][0]
    meaning = table_below(PAGE, "fields: activation manifest")["splits"][1]
    assert all(f"`{name}`" in meaning for name in (*content["splits"], "rows", "shards", *shard))
    check_tensors("tensors of activations", cache.manifest.parent / shard["file"])


def test_embeddings(tmp_path: Path):
    program = (REPOSITORY / "workflow_scripts" / "extract_embeddings.py").read_text("utf-8")
    names = re.findall(r'^ +"(\w+)": anatomy\.', program, re.M)
    save_file({name: torch.ones(3, 2) for name in names}, tmp_path / "tokens")
    check_tensors("tensors of embeddings", tmp_path / "tokens")


def test_autoencoder(tmp_path: Path):
    held_out = HeldOutFacts(1e-3, 0.1, 0.9, 8.0, 0.0, 100)
    configs = []
    for architecture in ("topk", "batchtopk", "relu"):
        sae = random_sae(D_MODEL, 8, architecture=architecture)
        sae.threshold = 0.5 if architecture == "batchtopk" else None
        warm = {"neighbour": sae, "neighbour_checkpoint": "step1"} if sae.threshold else {}
        plan = TrainingPlan(SaeTraining(latents=8, k=6, architecture="topk"), 0, 1, "", **warm)
        trained = TrainedAutoencoder(sae, held_out, (held_out,), (), 1)
        facts = training_facts(trained, plan)
        revision = "0123" if architecture == "relu" else None
        origin = SaeFacts("model.layers.3", "m", revision, 4, "text", facts)
        write_sae(tmp_path / architecture, sae, origin, PROVENANCE)
        configs.append(json.loads((tmp_path / architecture / CONFIG_FILE).read_text()))
    check_tensors("tensors of an autoencoder", tmp_path / "batchtopk" / WEIGHTS_FILE)
    check_fields("cfg.json", *configs)
    check_fields("metadata of cfg.json", *(config["metadata"] for config in configs))
    own = [config["metadata"][METADATA_KEY] for config in configs]
    check_fields("own facts of cfg.json", *own)
    check_fields("training of cfg.json", *(each["training"] for each in own))
    check_fields("HeldOutFacts", *own[0]["training"]["held_out"])


def test_quality():
    rows = tiny_rows(20, seed=0)
    rows = replace(rows, languages=rows.languages % len(LANGUAGES))
    content = measure_quality(random_sae(D_MODEL, 8), [rows], LANGUAGES).to_json()
    check_fields("quality.json", content | {"provenance": asdict(PROVENANCE)})
    check_fields("density", content["density"])
    check_fields("distribution", content["encoder_decoder_cosine"])
    check_fields("distribution", content["decoder_self_similarity"])
    order = list(table_below(PAGE, "fields: quality.json"))
    measures = order[order.index("l0") : order.index("reconstruction_bias") + 1]
    assert {"tokens", *measures} == content["by_language"]["en"].keys()


def test_every_figure_is_in_the_guide():
    drawn = {name for name, figure in FIGURES.items() if figure.tables[0].startswith("features_")}
    guide = (DOCS / PAGE).read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(\w+)` \|", guide.partition("\n## `figures/`")[2], re.M))
    assert drawn == shown | {"model_sizes"}
    assert "`figures/model_sizes`" in guide


def test_every_kind_of_artifact_has_words():
    scripts = (REPOSITORY / "workflow_scripts").glob("*.py")
    kinds = {
        kind
        for path in scripts
        for kind in re.findall(
            r'provenance(?:_of)?\(\s*arguments,\s*"(\w+)"', path.read_text("utf-8")
        )
    }
    tables = {f"features_{name}" for name in ("languages", "monosemanticity", "quality")}
    tables |= {f"features_{name}" for name in ("stages", "sensitivity", "tracking", "injection")}
    assert {"activations", "injection_perplexity"} <= kinds
    # The program that writes the tables of the robustness study names each after its file.
    tables |= {f"robustness_{name}" for name in ("classification", "circuit", "features")}
    tables |= {f"robustness_{name}" for name in ("knockout", "cues", "variants", "comparisons")}
    assert kinds - {"robustness"} | tables <= {kind for kind, _ in KINDS}


def test_python_examples_can_be_read():
    guide = (DOCS / PAGE).read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.+?)```", guide, re.S)
    assert len(examples) >= 4
    for example in examples:
        ast.parse(example)
