"""Datasets of the Hub: which files are read, in which order, and what is said without a network."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from glossogenesis.config.corpora import CorpusHub
from glossogenesis.corpora.corpus_text import HubText
from glossogenesis.corpora.hub_dataset import HubDataset
from glossogenesis.errors import StudyError
from hub_server import HubServer, connected_hub

SETTINGS = CorpusHub(
    kind="hub",
    dataset="some/dataset",
    revision="main",
    files={"en": "en/*.parquet", "ja": "ja/*"},
)


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
    with pytest.raises(StudyError, match=r"some/other: .* no such dataset.*mend `text.dataset`"):
        HubDataset.find("some/other", None)
    with pytest.raises(StudyError, match="some/dataset@v2: the Hub has no such revision"):
        HubDataset.find("some/dataset", "v2")
    with pytest.raises(StudyError, match=r"no Hub id.*; mend `text.dataset`"):
        HubDataset.find("not an id", None)
    with pytest.raises(StudyError, match=r"no Hub id.*; mend `text.dataset`"):
        HubDataset.find("not an id", None, offline=True)


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
