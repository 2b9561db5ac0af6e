"""Datasets of the Hub: which files are read, in which order, and what is said without a network."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from glossogenesis.corpora.sources import HubDataset, HubText
from glossogenesis.exceptions import StudyError
from glossogenesis.hub.files import kept_revision, moved, revision_file
from glossogenesis.study.inputs import CorpusHub, CorpusSettings
from prepare_corpus import text_of_corpus
from support.hub_server import HubServer, connected_hub

SETTINGS = CorpusHub(
    kind="hub",
    dataset="some/dataset",
    revision="main",
    files={"en": "en/*.parquet", "ja": "ja/*"},
)


def kept_commit(results: Path) -> str:
    kept = kept_revision(revision_file(results, "text"), "some/dataset", "main")
    assert kept is not None
    return kept.commit


def parquet(name: str) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"text": [f"{name} {row}" for row in range(3)]}).write_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    tables = ["en/1.parquet", "en/0.parquet", "ja/0.parquet"]
    with connected_hub(monkeypatch, tmp_path) as hub:
        hub.repository("datasets/some/dataset").commit(
            {"README.md": b"", "ja/notes.txt": b"", **{name: parquet(name) for name in tables}}
        )
        yield hub


def test_files_are_downloaded_in_the_order_of_names_as_they_are_needed(hub: HubServer) -> None:
    text = HubText.find(SETTINGS)
    commit = hub.repository("datasets/some/dataset").refs["main"]
    assert text.revision == commit
    assert hub.fetched() == {}
    documents = text.documents("en")
    assert [next(documents) for _ in range(3)] == [f"en/0.parquet {row}" for row in range(3)]
    assert list(hub.fetched()) == ["en/0.parquet"]
    assert next(documents) == "en/1.parquet 0"
    read = ["en/0.parquet", "en/1.parquet"]
    assert list(hub.fetched()) == read
    assert text.source("en") == {"dataset": "some/dataset", "revision": commit, "files": read}
    assert text.source("ja")["files"] == []


def test_a_pattern_that_matches_nothing_is_refused_before_anything_is_read(
    hub: HubServer,
) -> None:
    settings = SETTINGS.model_copy(update={"files": {"en": "en/*", "fr": "fr/*"}})
    with pytest.raises(StudyError, match=r"none of its 3 .*`text.files.fr: fr/\*`.*en/0.parquet"):
        HubText.find(settings)
    assert hub.fetched() == {}


def test_a_file_that_arrives_damaged_is_fetched_again(hub: HubServer) -> None:
    hub.faults.wrong["en/0.parquet"] = 1
    assert next(HubText.find(SETTINGS).documents("en")) == "en/0.parquet 0"
    assert hub.fetched()["en/0.parquet"] == 2


def test_what_the_hub_refuses_names_the_dataset(hub: HubServer) -> None:
    with pytest.raises(StudyError, match=r"some/other: .* no such dataset.*fix `text.dataset`"):
        HubDataset.find("some/other", None)
    with pytest.raises(StudyError, match="some/dataset@v2: the Hub has no such revision"):
        HubDataset.find("some/dataset", "v2")
    with pytest.raises(StudyError, match=r"no Hub id.*; fix `text.dataset`"):
        HubDataset.find("not an id", None)
    with pytest.raises(StudyError, match=r"no Hub id.*; fix `text.dataset`"):
        HubDataset.find("not an id", None, offline=True)


def test_the_commit_of_a_corpus_is_kept_when_the_branch_moves(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    record = revision_file(tmp_path / "results", "text")
    first = HubText.find(SETTINGS, record=record)
    documents = list(first.documents("en"))
    later = hub.repository("datasets/some/dataset").commit({"en/9.parquet": parquet("later")})
    only_english = SETTINGS.model_copy(update={"files": {"en": "en/*"}})
    again = HubText.find(only_english, record=record)
    assert again.revision == first.revision
    assert list(again.documents("en")) == documents
    line = f"some/dataset@main has moved from {str(first.revision)[:12]} to {later[:12]}"
    assert line in capsys.readouterr().err
    (said,) = moved(tmp_path / "results", [("text",)])
    assert said.startswith(f"text: {line}")
    # Offline too, whatever the cache knows of the branch by then.
    assert HubText.find(only_english).revision == later
    offline = HubText.find(only_english, offline=True, record=record)
    assert list(offline.documents("en")) == documents
    # A commit that is written settles the matter.
    written = only_english.model_copy(update={"revision": later})
    assert list(HubText.find(written, record=record).documents("en")) == [
        f"later {row}" for row in range(3)
    ]
    assert moved(tmp_path / "results", [("text",)]) == []


def test_the_program_keeps_the_commit_beside_those_of_checkpoints(
    hub: HubServer, tmp_path: Path
) -> None:
    corpus = CorpusSettings(text=SETTINGS, train_tokens=100, held_out_tokens=100)
    results = tmp_path / "results"
    for tokenizer in ("one", "another"):
        output = results / "corpora" / "text" / tokenizer / "manifest.json"
        text = text_of_corpus(corpus, {"name": "text"}, None, output, offline=False)
        hub.repository("datasets/some/dataset").commit({"en/9.parquet": b""})
    assert text.revision == kept_commit(results)
    assert [path.name for path in (results / "revisions").iterdir()] == ["text.json"]


def test_the_commit_of_a_corpus_that_was_found_offline_is_kept(
    hub: HubServer, tmp_path: Path
) -> None:
    record = revision_file(tmp_path / "results", "text")
    first = HubText.find(SETTINGS).revision
    assert HubText.find(SETTINGS, offline=True, record=record).revision == first
    hub.repository("datasets/some/dataset").commit({"en/9.parquet": b""})
    assert HubText.find(SETTINGS, record=record).revision == first


def test_offline_takes_the_same_files_and_says_which_it_lacks(
    hub: HubServer, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=r"some/dataset@main: offline, .* no list of its files"):
        HubText.find(SETTINGS, offline=True)
    online = list(HubText.find(SETTINGS).documents("en"))
    hub.repository("datasets/some/dataset").commit({"en/9.parquet": b""})
    hub.requests.clear()
    text = HubText.find(SETTINGS, offline=True)
    assert list(text.documents("en")) == online
    with pytest.raises(StudyError, match=r"ja/0.parquet: offline, and not in the Hub's cache"):
        next(text.documents("ja"))
    assert hub.requests == []
    shutil.rmtree(tmp_path / "hub")
