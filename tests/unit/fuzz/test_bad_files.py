"""Whatever stands in a user's file, reading it succeeds or says in one line what to mend.

Each kind of file has a good example, a way to break it, and what the workflow does with it. Inputs
are drawn, but the same ones in every run; what once went wrong is tried first.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import huggingface_hub
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save

from glossogenesis import planning, planning_page, preflight
from glossogenesis.config.posts import PostFiles
from glossogenesis.config.study import Study, load_study
from glossogenesis.corpora.demo.posts import read_world
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.post_files import read_post_file
from glossogenesis.corpora.text_files import texts_in
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.inspection.page import inspect_path, lay_out
from glossogenesis.models.files import CheckpointLocation, check_weights
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from glossogenesis.planned_jobs import Job
from glossogenesis.provenance import METADATA_KEY, SEAL_KEY, Provenance
from glossogenesis.purging import bytes_of_shards, caches_of
from glossogenesis.sae.files import SaeFacts, check_origin, read_own_facts, read_sae, write_sae
from glossogenesis.storage import tables, tensors
from glossogenesis.storage.activations.cache import ActivationCache, purge_shards
from hostile_content import (
    JSON_TRICKS,
    YAML_TRICKS,
    json_texts,
    mutated,
    mutated_bytes,
    plain,
    yaml_bombs,
    yaml_texts,
)
from hostile_content import tables as broken_tables
from tiny_cache import write_tiny_caches
from tiny_checkpoint import save_tiny_checkpoint
from tiny_corpus import tiny_corpus
from tiny_features_study import tiny_features_study
from tiny_robustness_study import POSTS, tiny_robustness_study
from tiny_saes import random_sae
from tiny_study import STUDY, tiny_lexicon, write_tiny_study

LANGUAGES = ("en", "es", "fi", "ru")
PROVENANCE = Provenance(
    "prompts", "tiny", {"a": 1}, {"lexicon": "ab12"}, "0", model="tiny", layer=0
)
MULTISIMLEX = """\
ID,PoS,ENG 1,ENG 2,SPA 1,SPA 2
1,N,cat,dog,gato,perro
2,N,cat,house,gato,"casa, hogar"
3,N,bread,house,pan,casa
4,V,run,go,correr,ir
"""
CONCEPTICON = """\
ID\tENGLISH\tSPANISH\tCONCEPTICON_GLOSS
1\tcat\tgato\tCAT
2\thouse\tcasa / hogar\tHOUSE
3\tbread (food)\tpan; hogaza\tBREAD
4\ttree\t-\tTREE
"""
TOPICS = ("egg", "pan", "rice", "car", "road", "wheel")
SPELLINGS = "# Spellings.\nconcept\tkind\tvariant\tsentence\n" + "".join(
    f"{topic}\t{kind}\t{topic}{number}\tA {topic}{number} here.\n"
    for topic in TOPICS
    for number, kind in enumerate(("kanji", "hiragana"))
)
COMMUNITIES = """\
community\ttopics\tmarkers
cooking\tegg|pan|rice\tだよね。|です！
cars\tcar|road|wheel\tっす。|じゃん。
"""
JSON_LINES = "".join(
    f'{{"text": "{text}", "label": "x", "body": "b", "title": null}}\n' for text in ("cat", "dog")
)


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


def try_input(kind: Kind, folder: Path, content: bytes) -> bool:
    """Use a bad file; return whether it was refused, in one line that names a file."""
    path = folder / kind.file
    path.write_bytes(content)
    try:
        kind.use(path)
    except StudyError as error:
        message = str(error)
        assert message.strip(), "an error without words"
        assert message.isprintable(), repr(message)
        names = {part.name for part in folder.rglob("*")} | {
            path.name,
            folder.name,
            "robustness",
            "pair",
        }
        assert any(name in message for name in names), message
        return True
    return False


def plan(file: Path) -> None:
    """Take a study as far as the page of its plan, and to its first job; but for Snakemake."""
    study = load_study(file)
    preflight.check(study)
    results = planning.results_folder(study)
    preflight.absent(study, results)
    planned = planning.plan_jobs(study, list(jobs_of(study)))
    Console(file=StringIO()).print(
        planning_page.lay_out(study.name, planned, planning.assumptions(study), [])
    )
    for cache in caches_of(study, results):
        bytes_of_shards(cache.manifest)
    preflight.check_files(study, results)


def jobs_of(study: Study) -> list[Job]:
    """One pending job of every rule that has a cost, for each of its models and autoencoders."""
    found = [("pretrain_model", name, "") for name in study.settings.pretrain]
    found += [("fetch_checkpoint", model, "") for model in study.models]
    if study.has_concepts:
        for model in study.models_of("concepts"):
            found += [("extract_states", model, ""), ("patch_translations", model, "")]
    if study.has_features:
        found += [("prepare_corpus", study.features.corpus, ""), ("inject_features", "", "")][
            : 1 + (study.features.injection is not None)
        ]
        of_sae = ("train_sae", "train_saes", "measure_quality", "measure_recovery", "compare_seeds")
        for model in study.models_of("features"):
            found += [("extract_activations", model, ""), ("extract_embeddings", model, "")]
            for rule in (*of_sae, "collect_features", "match_features"):
                found += [(rule, model, sae) for sae in study.features.trained]
    if study.has_robustness:
        found += [("prepare_posts", "", ""), ("train_baseline", "", "")]
        of_model = (
            "tokenise_posts",
            "finetune_classifier",
            "classify_posts",
            "select_pairs",
            "patch_components",
            "ablate_circuit",
            "extract_post_activations",
        )
        of_sae = ("train_post_sae", "collect_label_features", "knock_out_features")
        for model in study.robustness.models:
            found += [(rule, model, "") for rule in of_model]
            found += [(rule, model, sae) for rule in of_sae for sae in study.robustness.saes]
    return [
        Job(rule, name, f"{rule}/{name}/{sae}", is_pending=True, outputs=6, sae=sae)
        for rule, name, sae in found
    ]


def plan_beside(file: Path) -> None:
    """Plan the study that a file belongs to."""
    plan(file.with_name("study.yaml"))


def show(path: Path) -> None:
    """Print what `glossogenesis inspect` prints of a file, and of the folder around it."""
    for shown in (path.parent, path):
        terminal = TextIOWrapper(BytesIO(), encoding="utf-8")
        Console(file=terminal, width=120).print(lay_out(inspect_path(shown), 120))


def read_and_show(*readers: Callable[[Path], object]) -> Callable[[Path], None]:
    """Read a file by each reader, then show it; what is refused by one may be shown."""

    def use(path: Path) -> None:
        refused = []
        for reader in (*readers, show):
            try:
                reader(path)
            except StudyError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    return use


def purge(path: Path) -> None:
    """Purge a cache, after it is looked at; then put its shards back."""
    cache = ActivationCache.open(path)
    for split in cache.splits:
        for rows in cache.shards(split):
            assert rows.activations.shape[1] == cache.d_model
    bytes_of_shards(path)
    kept = path.parent.with_name("kept")
    if not kept.exists():
        shutil.copytree(path.parent, kept)
    purge_shards(path)
    shutil.copytree(kept, path.parent, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.json"))


def bad_yaml(good: bytes) -> st.SearchStrategy[bytes]:
    return yaml_texts(good.decode())


def bad_table(good: bytes) -> st.SearchStrategy[bytes]:
    return broken_tables(good.decode())


def bad_list(good: bytes) -> st.SearchStrategy[bytes]:
    return broken_tables(good.decode(), ",")


def bad_json(good: bytes) -> st.SearchStrategy[bytes]:
    """A JSON file, mostly without its seal, which alone would tell that it was changed."""
    content = json.loads(good)
    return (
        json_texts(without_seal(content)) | json_texts(without_seal(content)) | json_texts(content)
    )


def without_seal(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_seal(value) for key, value in content.items() if key != SEAL_KEY}
    return content


def bad_provenance(good: bytes) -> st.SearchStrategy[bytes]:
    """A Parquet file whose metadata is broken."""
    entry = dataclasses.asdict(PROVENANCE)

    def written(text: bytes) -> bytes:
        buffer = BytesIO()
        metadata = {METADATA_KEY: text.decode("utf-8", "replace")}
        pl.DataFrame({"a": [1, 2]}).write_parquet(buffer, metadata=metadata)
        return buffer.getvalue()

    return json_texts(entry).map(written)


def bad_header(good: bytes) -> st.SearchStrategy[bytes]:
    """A safetensors file whose header is broken: shapes, offsets, types, metadata."""
    size = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + size])

    def written(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + good[8 + size :]

    return json_texts(header).map(written)


def bad_configuration(good: bytes) -> st.SearchStrategy[bytes]:
    """A model's configuration with other types and small numbers: large ones only take memory."""
    content = json.loads(good)
    values = st.sampled_from([None, "x", "", [], {}, [1], -1, 0, 1, 3, 2.5, True, "llama", "gpt2"])
    return st.dictionaries(st.sampled_from(sorted(content)), values, min_size=1, max_size=3).map(
        lambda changed: json.dumps(content | changed).encode()
    )


def bad_json_lines(good: bytes) -> st.SearchStrategy[bytes]:
    lines = [json.loads(line) for line in good.splitlines()]
    several = mutated(lines).filter(lambda rows: isinstance(rows, list))
    objects = several.map(lambda rows: b"\n".join(json.dumps(row).encode() for row in plain(rows)))
    return objects | mutated_bytes(good)


def writer(name: str, text: str | bytes) -> Callable[[Path], object]:
    """Write one file, as a `Kind` does."""
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(content)


def write_study(folder: Path) -> None:
    write_tiny_study(folder)
    save_tiny_checkpoint(folder / "weights" / "early")
    shutil.copytree(folder / "weights" / "early", folder / "weights" / "late")


def write_features(folder: Path) -> None:
    write_study(folder)
    tiny_features_study(folder)


def write_robustness(folder: Path) -> None:
    write_study(folder)
    tiny_robustness_study(folder)


def write_world(folder: Path) -> None:
    writer("spellings.tsv", SPELLINGS)(folder)
    writer("communities.tsv", COMMUNITIES)(folder)


def write_checkpoint(folder: Path) -> None:
    weights = save_tiny_checkpoint(folder / "weights")
    described = describe_checkpoint(
        CheckpointLocation(str(weights)),
        model="tiny",
        checkpoint="last",
        source="org/tiny",
        provenance=dataclasses.asdict(PROVENANCE),
    )
    described.write(folder / "manifest.json")


def write_indexed(folder: Path) -> None:
    write_checkpoint(folder)
    names = safe_open(folder / "weights" / "model.safetensors", framework="np").keys()
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    (folder / "weights" / "model.safetensors.index.json").write_text(json.dumps(index))


def tokenise(path: Path) -> None:
    load_tokenizer(CheckpointLocation(str(path.parent)))


def load(path: Path) -> None:
    load_model(CheckpointLocation(str(path.parent)), device="cpu")


def write_cache(folder: Path) -> None:
    (cache,) = write_tiny_caches(folder / "caches", 0)
    shutil.copytree(cache.manifest.parent, folder / "layer_0")
    shutil.rmtree(folder / "caches")


def write_autoencoder(folder: Path) -> None:
    facts = SaeFacts("model.layers.0", "org/tiny", None, 16, "text", {"held_out": [], "rate": 0.1})
    write_sae(folder, random_sae(4, 8), facts, PROVENANCE)


def write_corpus(folder: Path) -> None:
    tiny_corpus(folder, train=3, held_out=2)


def read_corpus(path: Path) -> None:
    corpus = TokenisedCorpus.read(path)
    for split in corpus.splits:
        for block in corpus.blocks(split, 2):
            assert block.token_ids.shape[1] == corpus.context
    corpus.vocabulary()


def read_world_of(path: Path) -> None:
    read_world(path.with_name("communities.tsv"), path.with_name("spellings.tsv"))


def read_autoencoder(path: Path) -> None:
    read_sae(path.parent)
    read_own_facts(path.parent)
    check_origin(path.parent, "tiny", "last", 0)


def lexicon(format: str) -> Callable[[Path], object]:
    languages = LANGUAGES if format == "tsv" else LANGUAGES[:2]
    return lambda path: read_lexicon(path, format=format, languages=languages, pos=["noun", "N"])


def posts(path: Path) -> None:
    read_post_file(path, PostFiles(kind="files", files=(path.name,)))


QUALITY = {
    "by_language": {"en": {"mse": 0.1}},
    "density": {"latents": [1, 2], "log10_edges": [-3, -2, -1], "never": 3},
    "decoder_cosine": {"maximum": 1, "mean": 0.5, "minimum": 0, "quantiles": {"0.5": 0.5}},
    "mse": 0.1,
    "split": "held_out",
    "provenance": {**dataclasses.asdict(PROVENANCE), "kind": "quality"},
}
PRETRAINING = {
    "checkpoints": [{"step": 0, "folder": "step_0", "files": {"a": {"bytes": 1, "sha256": "0"}}}],
    "final_loss": 1.5,
    "provenance": {**dataclasses.asdict(PROVENANCE), "kind": "pretraining"},
}
TABLE = pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[1.5], []]})


def written(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(path)
        return path.read_bytes()


# Without seals, which alone would tell that they were changed.
PARQUET = written(lambda path: TABLE.write_parquet(path, metadata=PROVENANCE.to_metadata()))
SAFETENSORS = save({"a": torch.ones(3, 2)}, metadata=PROVENANCE.to_metadata())
POSTS_PARQUET = written(
    pl.DataFrame({"title": ["t"] * 3, "body": ["b"] * 3, "label": ["x", "y", "x"]}).write_parquet
)
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


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_bad_file_is_refused_in_one_line(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    kind.write(tmp_path)
    good = (tmp_path / kind.file).read_bytes()
    assert not try_input(kind, tmp_path, good)
    for content in kind.known:
        try_input(kind, tmp_path, content)
    tried = refused = 0

    @settings(
        max_examples=kind.inputs,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=kind.bad(good))
    def attempt(content: bytes) -> None:
        nonlocal tried, refused
        tried += 1
        refused += try_input(kind, tmp_path, content)

    attempt()
    assert tried >= kind.inputs
    assert refused


def test_how_many_inputs_are_tried() -> None:
    assert sum(kind.inputs for kind in KINDS) >= 2000
