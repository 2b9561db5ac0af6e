"""Good examples of the files that the workflow reads, written with all that belongs to them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import torch
from safetensors import safe_open
from safetensors.torch import save

from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.sae.files import SaeFacts, write_sae
from glossogenesis.storage.provenance import Provenance
from support.tiny_cache import write_tiny_caches
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_corpus import tiny_corpus
from support.tiny_features_study import tiny_features_study
from support.tiny_robustness_study import tiny_robustness_study
from support.tiny_saes import random_sae
from support.tiny_study import write_tiny_study

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


def writer(name: str, text: str | bytes) -> Callable[[Path], object]:
    """Write one file, as a `Kind` does."""
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(content)


def write_study(folder: Path) -> None:
    write_tiny_study(folder)
    save_tiny_checkpoint(folder / "weights" / "early", num_hidden_layers=6)
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


def write_cache(folder: Path) -> None:
    (cache,) = write_tiny_caches(folder / "caches", 0)
    shutil.copytree(cache.manifest.parent, folder / "layer_0")
    shutil.rmtree(folder / "caches")


def write_autoencoder(folder: Path) -> None:
    facts = SaeFacts("model.layers.0", "org/tiny", None, 16, "text", {"held_out": [], "rate": 0.1})
    write_sae(folder, random_sae(4, 8), facts, PROVENANCE)


def write_corpus(folder: Path) -> None:
    tiny_corpus(folder, train=3, held_out=2)


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
