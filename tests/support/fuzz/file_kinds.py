"""All kinds of files that the workflow reads: a good example, ways to break it, and its use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from glossogenesis.corpora.documents import texts_in
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.weight_files import check_weights
from glossogenesis.storage import tables, tensors
from support.fuzz.bad_content import (
    bad_configuration,
    bad_header,
    bad_json,
    bad_json_lines,
    bad_list,
    bad_provenance,
    bad_table,
    bad_yaml,
)
from support.fuzz.file_uses import (
    lexicon,
    load,
    plan,
    plan_beside,
    posts,
    purge,
    read_and_show,
    read_autoencoder,
    read_corpus,
    read_world_of,
    show,
    tokenise,
)
from support.fuzz.good_files import (
    CONCEPTICON,
    JSON_LINES,
    MULTISIMLEX,
    PARQUET,
    POSTS_PARQUET,
    PRETRAINING,
    QUALITY,
    SAFETENSORS,
    TABLE,
    write_autoencoder,
    write_cache,
    write_checkpoint,
    write_corpus,
    write_features,
    write_indexed,
    write_robustness,
    write_study,
    write_world,
    writer,
)
from support.hostile_content import (
    JSON_TRICKS,
    YAML_TRICKS,
    mutated_bytes,
    yaml_bombs,
)
from support.tiny_robustness_study import POSTS
from support.tiny_study import STUDY, tiny_lexicon


@dataclass(frozen=True)
class Kind:
    """One kind of file: how bad ones are made, and what the workflow does with them."""

    name: str
    file: str
    """Where it lies in the folder."""
    inputs: int
    write: Callable[[Path], object]
    """Writes a good example into the folder, with all that belongs to it."""
    bad: Callable[[bytes], st.SearchStrategy[bytes]]
    """Breaks the good example."""
    use: Callable[[Path], object]
    known: tuple[bytes, ...] = ()
    """Tried first: inputs that once ended in a traceback or hung, and others of their kind."""


TRICKY_YAML = tuple(trick.format(STUDY).encode("utf-8", "surrogatepass") for trick in YAML_TRICKS)
BOMBS = tuple(f"{bomb}\n".encode() for bomb in yaml_bombs())
KINDS = (
    Kind("study", "study.yaml", 260, write_study, bad_yaml, plan, (*TRICKY_YAML, *BOMBS)),
    Kind("features study", "study.yaml", 220, write_features, bad_yaml, plan),
    Kind("robustness study", "study.yaml", 220, write_robustness, bad_yaml, plan),
    Kind("sheet", "sheet.tsv", 260, write_study, bad_table, plan_beside),
    Kind("lexicon", "lexicon.tsv", 150, write_study, bad_table, plan_beside),
    Kind("lexicon alone", "a.tsv", 60, writer("a.tsv", tiny_lexicon()), bad_table, lexicon("tsv")),
    Kind(
        "Multi-SimLex", "a.csv", 120, writer("a.csv", MULTISIMLEX), bad_list, lexicon("multisimlex")
    ),
    Kind(
        "Concepticon", "a.tsv", 120, writer("a.tsv", CONCEPTICON), bad_table, lexicon("concepticon")
    ),
    Kind("posts", "a.tsv", 120, writer("a.tsv", POSTS), bad_table, posts),
    Kind("posts as JSON", "a.jsonl", 80, writer("a.jsonl", JSON_LINES), bad_json_lines, posts),
    Kind(
        "posts as Parquet",
        "a.parquet",
        40,
        writer("a.parquet", POSTS_PARQUET),
        mutated_bytes,
        posts,
    ),
    Kind(
        "text as JSON",
        "a.jsonl",
        60,
        writer("a.jsonl", JSON_LINES),
        bad_json_lines,
        lambda path: list(texts_in(path)),
    ),
    Kind("spellings", "spellings.tsv", 100, write_world, bad_table, read_world_of),
    Kind("communities", "communities.tsv", 100, write_world, bad_table, read_world_of),
    Kind(
        "checkpoint manifest",
        "manifest.json",
        120,
        write_checkpoint,
        bad_json,
        read_and_show(CheckpointManifest.read),
        JSON_TRICKS,
    ),
    Kind(
        "activation manifest",
        "layer_0/manifest.json",
        120,
        write_cache,
        bad_json,
        read_and_show(purge),
        JSON_TRICKS,
    ),
    Kind(
        "corpus manifest",
        "manifest.json",
        120,
        write_corpus,
        bad_json,
        read_and_show(read_corpus),
        JSON_TRICKS,
    ),
    Kind(
        "autoencoder",
        "cfg.json",
        120,
        write_autoencoder,
        bad_json,
        read_and_show(read_autoencoder),
        JSON_TRICKS,
    ),
    Kind(
        "quality", "quality.json", 60, writer("quality.json", json.dumps(QUALITY)), bad_json, show
    ),
    Kind(
        "pretraining manifest",
        "manifest.json",
        60,
        writer("manifest.json", json.dumps(PRETRAINING)),
        bad_json,
        show,
    ),
    Kind(
        "model configuration",
        "config.json",
        60,
        writer("config.json", '{"model_type": "llama", "n": [1]}'),
        bad_json,
        show,
        JSON_TRICKS,
    ),
    Kind("tokenizer", "weights/tokenizer.json", 40, write_checkpoint, bad_json, tokenise),
    Kind(
        "settings of a tokenizer",
        "weights/tokenizer_config.json",
        30,
        write_checkpoint,
        bad_json,
        tokenise,
    ),
    Kind(
        "configuration of weights",
        "weights/config.json",
        50,
        write_checkpoint,
        bad_configuration,
        load,
    ),
    Kind(
        "index of weights",
        "weights/model.safetensors.index.json",
        60,
        write_indexed,
        bad_json,
        lambda path: check_weights(path.parent),
        JSON_TRICKS,
    ),
    Kind(
        "Parquet",
        "a.parquet",
        60,
        writer("a.parquet", PARQUET),
        mutated_bytes,
        read_and_show(tables.read_table, tables.read_provenance),
    ),
    Kind(
        "provenance of Parquet",
        "a.parquet",
        60,
        writer("a.parquet", PARQUET),
        bad_provenance,
        read_and_show(tables.read_provenance),
    ),
    Kind(
        "safetensors",
        "a.safetensors",
        60,
        writer("a.safetensors", SAFETENSORS),
        mutated_bytes,
        read_and_show(tensors.read_tensors, tensors.read_provenance),
    ),
    Kind(
        "header of safetensors",
        "a.safetensors",
        60,
        writer("a.safetensors", SAFETENSORS),
        bad_header,
        read_and_show(tensors.read_tensors, tensors.read_provenance),
    ),
    Kind("CSV", "a.csv", 40, writer("a.csv", TABLE.drop("c").write_csv()), bad_list, show),
)
