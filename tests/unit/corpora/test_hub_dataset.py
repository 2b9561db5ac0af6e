import errno
from types import SimpleNamespace

import huggingface_hub
import polars as pl
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from glossogenesis.config.corpora import CorpusHub
from glossogenesis.corpora.corpus_text import HubText
from glossogenesis.corpora.hub_dataset import HubDataset
from glossogenesis.errors import StudyError

FILES = ["README.md", "en/1.parquet", "en/0.parquet", "ja/0.parquet", "ja/notes.txt"]
SETTINGS = CorpusHub(
    kind="hub",
    dataset="some/dataset",
    revision="main",
    files={"en": "en/*.parquet", "ja": "ja/*"},
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with one dataset; returns the files that are downloaded."""
    downloaded = []

    def download(dataset, name, *, revision, repo_type):
        assert (dataset, revision, repo_type) == ("some/dataset", "commit", "dataset")
        downloaded.append(name)
        path = tmp_path / name.replace("/", "_")
        pl.DataFrame({"text": [f"{name} {row}" for row in range(3)]}).write_parquet(path)
        return str(path)

    class Api:
        def dataset_info(self, dataset, *, revision):
            return SimpleNamespace(sha="commit")

        def list_repo_files(self, dataset, *, revision, repo_type):
            assert revision == "commit"
            return FILES

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return downloaded


def test_files_are_downloaded_in_the_order_of_names_as_they_are_needed(hub):
    text = HubText.find(SETTINGS)
    assert text.revision == "commit"
    assert hub == []
    documents = text.documents("en")
    assert [next(documents) for _ in range(3)] == [f"en/0.parquet {row}" for row in range(3)]
    assert hub == ["en/0.parquet"]
    assert next(documents) == "en/1.parquet 0"
    assert hub == ["en/0.parquet", "en/1.parquet"]
    assert text.source("en") == {"dataset": "some/dataset", "revision": "commit", "files": hub}
    assert text.source("ja")["files"] == []


def test_a_pattern_that_matches_nothing_is_refused_before_anything_is_read(hub):
    settings = SETTINGS.model_copy(update={"files": {"en": "en/*", "fr": "fr/*"}})
    with pytest.raises(StudyError, match=r"none of its 3 .*`text.files.fr: fr/\*`.*en/0.parquet"):
        HubText.find(settings)
    assert hub == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalEntryNotFoundError("nothing cached"), "cannot be reached"),
        (ConnectionError("refused\nby the network"), "cannot be reached"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, monkeypatch, error, message):
    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(StudyError, match=message) as raised:
        next(HubText.find(SETTINGS).documents("en"))
    assert "some/dataset" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_id_that_is_none_is_refused():
    with pytest.raises(StudyError, match=r"no Hub id; mend `text.dataset`"):
        HubDataset.find("not an id", None)
