"""Names, paths and manifests of somebody else lead to no file outside their folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from glossogenesis.models.weight_files import check_weights
from glossogenesis.storage.activations.cache import ActivationCache, purge_shards
from glossogenesis.storage.provenance import SEAL_KEY
from glossogenesis.study.sheet import read_sheet
from support.hostile_content import assert_one_line
from support.tiny_cache import write_tiny_caches
from support.tiny_corpus import tiny_corpus
from support.tiny_features_study import tiny_features_study
from support.tiny_robustness_study import tiny_robustness_study
from support.tiny_study import SHEET, tiny_study

OUTSIDE = (
    "../x",
    "/tmp/x",
    "..",
    ".",
    "a/b",
    "a\\b",
    "~x",
    "-x",
    "",
    "a b",
    "a\nb",
    "a\n",
    "x\0",
    "{model}",
    "<logs>",
    "a;b",
    "$(id)",
    "é",
    "x" * 300,
)
"""Names that would become other paths than one folder in `results/`, or more than a path."""


NAMED: dict[str, Callable[[dict[str, Any], str], object]] = {
    "study": lambda s, name: s.update(study=name),
    "models": lambda s, name: s["models"].update({name: {}}),
    "pretrain": lambda s, name: s["pretrain"].update({name: s["pretrain"]["small"]}),
    "corpora": lambda s, name: s["corpora"].update({name: s["corpora"]["text"]}),
    "features.saes": lambda s, name: s["features"]["saes"].update({name: {"k": 4}}),
    "features.corpus": lambda s, name: s["features"].update(corpus=name),
    "features.checkpoints": lambda s, name: s["features"].update(checkpoints={"local": [name]}),
    "languages": lambda s, name: s["languages"].update({name: s["languages"]["en"]}),
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", NAMED)
def test_names_in_a_study_are_names_of_one_folder(tmp_path: Path, key: str, name: str) -> None:
    with pytest.raises(StudyError) as caught:
        tiny_features_study(tmp_path, lambda s: NAMED[key](s, name))
    assert_one_line(caught.value, "study.yaml", key)


@pytest.mark.parametrize("name", OUTSIDE)
def test_autoencoders_of_the_robustness_study_are_names_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match=r"robustness.saes"):
        tiny_robustness_study(tmp_path, lambda s: s["robustness"].update(saes={name: {"k": 4}}))


def sheet_with(folder: Path, column: str, value: str) -> Path:
    """A sheet whose first row, a checkpoint on the Hub, has a value in a column."""
    rows = [line.split("\t") for line in SHEET.splitlines()[:2]]
    rows[1] = ["local", "early", "10", "", "1", "org/model", "main", "step10"]
    rows[1][rows[0].index(column)] = value
    path = folder / "sheet.tsv"
    path.write_bytes("\n".join("\t".join(row) for row in rows).encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize("name", [name for name in OUTSIDE if name.strip() == name != ""])
@pytest.mark.parametrize("column", ["model", "checkpoint"])
def test_names_in_a_sheet_are_names_of_one_folder(tmp_path: Path, column: str, name: str) -> None:
    with pytest.raises(StudyError) as caught:
        read_sheet(sheet_with(tmp_path, column, name))
    assert_one_line(caught.value, "sheet.tsv")


@pytest.mark.parametrize(
    "subfolder",
    [
        "..",
        "../x",
        "a/../../x",
        "/etc",
        "~/x",
        "a//b",
        "a/.",
        "./a",
        "a\\..\\b",
        "C:/x",
        "a/",
        "x" * 300,
    ],
)
def test_a_subfolder_stays_within_its_source(tmp_path: Path, subfolder: str) -> None:
    with pytest.raises(StudyError, match=r"sheet.tsv, line 2: column 'subfolder'"):
        read_sheet(sheet_with(tmp_path, "subfolder", subfolder))


@pytest.mark.parametrize(
    "revision",
    [
        "../x",
        "a/../b",
        "/x",
        "-x",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "a\\b",
        "a@{b",
        "a//b",
        "a.lock",
        "a/.b",
        "x/",
        "x.",
        ".x",
    ],
)
def test_a_revision_is_what_git_calls_one(tmp_path: Path, revision: str) -> None:
    with pytest.raises(StudyError, match=r"sheet.tsv, line 2: column 'revision'"):
        read_sheet(sheet_with(tmp_path, "revision", revision))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("subfolder", "step100"),
        ("subfolder", "checkpoints/step 100"),
        ("subfolder", "..x/é"),
        ("revision", "main"),
        ("revision", "refs/pr/1"),
        ("revision", "step1000-tokens2B"),
        ("revision", "v1.0+x"),
        ("revision", "0" * 40),
        ("source", "~/models/x"),
        ("source", '/data/it\'s $(here); "x"'),
        ("source", "../models/x"),
        ("source", "org/model"),
    ],
)
def test_what_users_write_is_allowed(tmp_path: Path, column: str, value: str) -> None:
    (row,) = read_sheet(sheet_with(tmp_path, column, value))
    assert getattr(row, column) == value


@pytest.mark.parametrize(
    "folder", ["", " ", "~/results", "{model}", "<logs>/x", "a\nb", "a\0b", "x" * 300]
)
def test_folders_of_outputs_are_where_they_are_written(tmp_path: Path, folder: str) -> None:
    with pytest.raises(StudyError, match=r"study.yaml: `pathvars.results`"):
        tiny_study(tmp_path, lambda s: s.update(pathvars={"results": folder}))


PATHS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "checkpoints": lambda s, path: s.update(checkpoints=path),
    "lexicon.path": lambda s, path: s["lexicon"].update(path=path),
    "corpora.text.text": lambda s, path: s["corpora"]["text"]["text"]["files"].update(en=[path]),
}


@pytest.mark.parametrize(
    "path", ["", "a\nb", "a\0b", "{x}.tsv", "<results>/x", "a\x1b[2J", "x" * 300]
)
@pytest.mark.parametrize("key", PATHS)
def test_paths_hold_nothing_that_snakemake_or_a_terminal_acts_on(
    tmp_path: Path, key: str, path: str
) -> None:
    with pytest.raises(StudyError) as caught:
        tiny_features_study(tmp_path, lambda s: PATHS[key](s, path))
    assert_one_line(caught.value, "study.yaml", key)


LEADING_OUT = (
    "../outside",
    "/etc/passwd",
    "a/../../outside",
    "..",
    "",
    "a\\b",
    "a\nb",
    3,
    None,
    ["a"],
)


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file and take its seal off, as somebody would who means it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop(SEAL_KEY)
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def set_at(content: Any, way: tuple[Any, ...], value: Any) -> None:
    for key in way[:-1]:
        content = content[key]
    content[way[-1]] = value


@pytest.mark.parametrize("name", LEADING_OUT)
def test_purging_deletes_no_file_outside_its_folder(tmp_path: Path, name: Any) -> None:
    (cache,) = write_tiny_caches(tmp_path / "caches", 0)
    outside = cache.manifest.parents[1] / "outside"
    outside.write_text("keep me")
    change_json(cache.manifest, lambda c: set_at(c, ("splits", "train", "shards", 0, "file"), name))
    for act in (purge_shards, ActivationCache.open):
        with pytest.raises(StudyError) as caught:
            act(cache.manifest)
        assert_one_line(caught.value, "manifest.json")
    assert outside.read_text() == "keep me"
    assert len(list(cache.manifest.parent.glob("*.safetensors"))) == 5


@pytest.mark.parametrize("name", LEADING_OUT)
@pytest.mark.parametrize(
    "way", [("splits", "train", "shards", 0, "file"), ("vocabulary_file", "file")], ids=str
)
def test_a_corpus_reads_no_file_outside_its_folder(
    tmp_path: Path, way: tuple[Any, ...], name: Any
) -> None:
    tiny_corpus(tmp_path, train=3, held_out=2)
    change_json(tmp_path / "manifest.json", lambda content: set_at(content, way, name))
    with pytest.raises(StudyError) as caught:
        TokenisedCorpus.read(tmp_path / "manifest.json")
    assert_one_line(caught.value, "manifest.json")


@pytest.mark.parametrize("name", [name for name in LEADING_OUT if isinstance(name, str)])
def test_a_checkpoint_manifest_names_weights_of_its_folder(weights: Path, name: str) -> None:
    manifest = weights.with_name("manifest.json")
    describe_checkpoint(
        CheckpointLocation(str(weights)), model="m", checkpoint="c", source="s", provenance={}
    ).write(manifest)
    facts = {"bytes": 1, "sha256": "0"}
    change_json(manifest, lambda content: content.update(weights={name: facts}))
    with pytest.raises(StudyError, match=r"manifest.json: not a checkpoint manifest"):
        CheckpointManifest.read(manifest)


@pytest.mark.parametrize("name", LEADING_OUT)
def test_an_index_of_weights_names_files_of_its_folder(weights: Path, name: Any) -> None:
    save_file({"weight": torch.ones(1)}, weights.with_name("outside"))
    index = {"weight_map": {"weight": name}}
    (weights / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(StudyError, match=r"index.json: no readable weight_map"):
        check_weights(weights)
