"""What drawn inputs found: each of these once ended in a traceback, without end, or elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.page import inspect_path, lay_out
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.files import read_json
from glossogenesis.storage.provenance import METADATA_KEY, SEAL_KEY, provenance_in
from glossogenesis.study.loading import load_study
from glossogenesis.workflow import preflight
from support.tiny_cache import write_tiny_caches
from support.tiny_corpus import tiny_corpus
from support.tiny_features_study import tiny_features_study
from support.tiny_study import write_tiny_study

Change = Callable[[dict[str, Any]], object]

STUDIES: dict[str, tuple[Change, str]] = {
    "a preset that is a list": (
        lambda s: s["features"]["saes"]["topk"].update(preset=["recommended"]),
        r"`features.saes.topk.preset`",
    ),
    "more layers than can be counted": (
        lambda s: s["models"]["local"].update(n_layers=2**62),
        r"model 'local' has 4611686018427387904 layers, more than 1000",
    ),
    "more weights than a float adds up": (
        lambda s: s["models"]["local"].update(parameters=1e300),
        r"`models.local.parameters` is a number beyond",
    ),
    "a number as a key": (
        lambda s: s["languages"]["en"]["share"].update({10**30: 0.1}),
        r"`languages.en.share` is a number beyond",
    ),
    "results in the root": (
        lambda s: s.update(pathvars={"results": ""}),
        r"`pathvars.results`: is empty; write a path",
    ),
    "results where Snakemake would not put them": (
        lambda s: s.update(pathvars={"results": "~/results"}),
        r"`pathvars.results`: begins with `~`, which only shells expand",
    ),
}


@pytest.mark.parametrize("mistake", STUDIES)
def test_studies(tmp_path: Path, mistake: str) -> None:
    change, expected = STUDIES[mistake]
    with pytest.raises(StudyError, match=expected) as caught:
        preflight.check(tiny_features_study(tmp_path, change))
    assert str(caught.value).startswith(str(tmp_path / "study.yaml"))


def test_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    file = write_tiny_study(tmp_path)
    text = file.read_text(encoding="utf-8").replace("items: 6", f"items: 0x{'f' * 9000}")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=r"`concepts.items` is a number beyond"):
        load_study(file)


def test_a_step_of_thousands_of_digits(tmp_path: Path) -> None:
    file = write_tiny_study(tmp_path)
    sheet = (tmp_path / "sheet.tsv").read_text(encoding="utf-8")
    (tmp_path / "sheet.tsv").write_text(sheet.replace("\t20\t", f"\t{'9' * 4000}\t"))
    with pytest.raises(StudyError, match=r"sheet.tsv, line 3: column 'step'"):
        load_study(file)


def test_controls_in_a_message_are_shown() -> None:
    error = StudyError("study.yaml: unknown key `\x1b[2J\u202e\ud800`;\nremove it")
    assert str(error) == r"study.yaml: unknown key `\x1b[2J\u202e\ud800`; remove it"
    assert len(str(StudyError(f"begins {'x' * 10**6} ends"))) < 2000


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 50_000])
def test_json_that_nests_without_end(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content, encoding="utf-8")
    for read in (read_json, inspect_path):
        with pytest.raises(StudyError, match=r"manifest.json: not valid JSON"):
            read(path)
    with pytest.raises(StudyError, match=r"manifest.json: its provenance is of another version"):
        provenance_in({METADATA_KEY: content}, path)


def changed(path: Path, *ways: tuple[Any, Any]) -> Path:
    """Change a manifest at some places, and take off its seal."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop(SEAL_KEY, None)
    for way, value in ways:
        *holders, last = way
        holder = content
        for key in holders:
            holder = holder[key]
        holder[last] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("value", [None, [], "x", {"lexicon": None}, {"lexicon": ["x"]}])
@pytest.mark.parametrize("key", ["inputs", "libraries", "settings", "facts"])
def test_a_provenance_of_other_types_is_shown_or_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    corpus = tiny_corpus(tmp_path, train=3, held_out=2)
    path = changed(corpus.folder / "manifest.json", (("provenance", key), value))
    lay_out(inspect_path(path), 120)
    with pytest.raises(StudyError, match=r"x.parquet: its provenance is of another version"):
        provenance_in({METADATA_KEY: json.dumps({key: value})}, "x.parquet")


@pytest.mark.parametrize("value", [None, ["x"], 3, 10**30, "x", -1.5])
@pytest.mark.parametrize("key", ["bytes", "sha256", "rows"])
def test_facts_of_shards_have_their_types(tmp_path: Path, key: str, value: object) -> None:
    (cache,) = write_tiny_caches(tmp_path, 0)
    changed(cache.manifest, (("splits", "train", "shards", 0, key), value))
    if key == "sha256" and value == "x":
        ActivationCache.open(cache.manifest)
        return
    if value == 3 and key != "sha256":
        ActivationCache.open(cache.manifest)
        return
    with pytest.raises(StudyError, match=r"manifest.json: not a manifest of activations"):
        ActivationCache.open(cache.manifest)


@pytest.mark.parametrize("value", [None, [], 3, {"en": "x"}])
def test_counts_of_a_corpus_have_their_types(tmp_path: Path, value: object) -> None:
    corpus = tiny_corpus(tmp_path, train=3, held_out=2)
    path = changed(corpus.folder / "manifest.json", (("splits", "train", "tokens"), value))
    with pytest.raises(StudyError, match=r"manifest.json: not a tokenised corpus"):
        TokenisedCorpus.read(path)


def test_a_configuration_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("null", encoding="utf-8")
    with pytest.raises(StudyError, match=r"config.json: not a configuration"):
        inspect_path(tmp_path)
