"""Files of the Hub: fetched through faults and verified; what stays wrong is one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.hub.errors import WAITS
from glossogenesis.hub.files import HubSnapshot, fetch_file
from support.hub_server import HubServer, connected_hub

NAME = "someone/model"
WEIGHTS = "model.safetensors"
BYTES = bytes(range(256)) * 2000
SECRET = "hf_secretsecretsecret"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with connected_hub(monkeypatch, tmp_path) as hub:
        hub.repository(NAME).commit({WEIGHTS: BYTES, "config.json": b"{}"})
        yield hub


def fetch(folder: Path | None = None, name: str = WEIGHTS) -> Path:
    snapshot = HubSnapshot.find(NAME)
    return fetch_file(snapshot, next(file for file in snapshot.files if file.path == name), folder)


def refusal(folder: Path, name: str = WEIGHTS) -> str:
    with pytest.raises(StudyError) as raised:
        fetch(folder, name)
    message = str(raised.value)
    assert message.startswith(NAME)
    assert "\n" not in message
    assert SECRET not in message
    assert not (folder / name).exists()
    return message


def test_branches_tags_and_commits_lead_to_the_commit(hub: HubServer) -> None:
    repository = hub.repository(NAME)
    first = repository.refs["main"]
    repository.refs["v1/final"] = first
    second = repository.commit({WEIGHTS: b"later"})
    assert HubSnapshot.find(NAME).commit == second
    assert HubSnapshot.find(NAME, "v1/final").commit == first
    assert HubSnapshot.find(NAME, first).commit == first


def test_a_file_is_fetched_once(hub: HubServer, tmp_path: Path) -> None:
    for folder in (tmp_path / "to", None):
        hub.requests.clear()
        path = fetch(folder)
        assert path.read_bytes() == BYTES
        assert fetch(folder) == path
        assert hub.fetched()[WEIGHTS] == 1


def test_dropped_connections_are_continued(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client writes to disk by parts of this size, of 10 MiB otherwise.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.faults.drop_after[WEIGHTS] = [100_000, 100_000]
    assert fetch(tmp_path).read_bytes() == BYTES
    ranges = [
        asked for method, path, asked in hub.requests if method == "GET" and path.endswith(WEIGHTS)
    ]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize("in_cache", [True, False])
@pytest.mark.parametrize("damaged", [BYTES[:-8], BYTES[:-1] + b"?"])
def test_a_file_that_was_damaged_here_is_replaced(
    hub: HubServer, tmp_path: Path, damaged: bytes, in_cache: bool
) -> None:
    folder = None if in_cache else tmp_path
    fetch(folder).write_bytes(damaged)
    assert fetch(folder).read_bytes() == BYTES


@pytest.mark.parametrize("fault", ["truncated", "wrong"])
def test_wrong_bytes_are_noticed_and_fetched_again(
    hub: HubServer, tmp_path: Path, fault: str
) -> None:
    getattr(hub.faults, fault)[WEIGHTS] = 1
    assert fetch(tmp_path).read_bytes() == BYTES


def test_wrong_bytes_that_stay_are_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.wrong = {WEIGHTS: 9}
    assert f"{WEIGHTS}: arrived twice with another SHA-256" in refusal(tmp_path)


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("what", ["api", WEIGHTS])
def test_a_server_that_fails_is_asked_again_after_growing_waits(
    hub: HubServer, tmp_path: Path, status: int, what: str
) -> None:
    hub.faults.status[what] = [status] * 3
    assert fetch(tmp_path).read_bytes() == BYTES
    assert len(hub.waits) >= 1
    assert hub.waits == sorted(hub.waits)


def test_a_limit_of_requests_is_waited_for(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.status["api"] = [429]
    hub.faults.retry_after = 40
    assert fetch(tmp_path).read_bytes() == BYTES
    assert 40 <= sum(hub.waits) <= 41


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "the Hub answers .*500.*; run again later"),
        (429, "limits requests, also after 7 trials; run again later, or set HF_TOKEN"),
        (403, "give the token of HF_TOKEN leave"),
    ],
)
def test_what_does_not_pass_is_said(
    hub: HubServer, tmp_path: Path, status: int, message: str
) -> None:
    hub.faults.status["api"] = [status] * 99
    with pytest.raises(StudyError, match=message):
        fetch(tmp_path)


def test_what_is_not_there_is_named(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"someone/other: the Hub has no such model.*`source`"):
        HubSnapshot.find("someone/other")
    with pytest.raises(StudyError, match=r"someone/data: the Hub has no such dataset.*`text.dat"):
        HubSnapshot.find("someone/data", kind="dataset")
    with pytest.raises(StudyError, match="someone/model@v2: the Hub has no such revision"):
        HubSnapshot.find(NAME, "v2")
    with pytest.raises(StudyError, match="neither a folder nor a Hub id"):
        HubSnapshot.find("no id at all")
    hub.faults.gone.add(WEIGHTS)
    assert f"{WEIGHTS}: the Hub lists this file but does not" in refusal(tmp_path)
    assert hub.waits == []


def test_gated_repositories_need_a_token_that_is_in_no_message(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    hub.repository(NAME).gated = True
    hub.token = SECRET
    assert f"gated, and there is no token; accept its terms on {hub.url}/{NAME}" in refusal(
        tmp_path
    )
    monkeypatch.setenv("HF_TOKEN", "no-access")
    assert "the account of HF_TOKEN has no access" in refusal(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "expired")
    assert "the Hub refuses the token" in refusal(tmp_path)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.faults.status[WEIGHTS] = [500]
    fetch(tmp_path)
    assert SECRET not in "".join(capfd.readouterr())


def test_no_hub_at_all(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StudyError, match=r"the Hub cannot be reached .*`hub.offline: true`"):
        HubSnapshot.find(NAME)
    assert hub.waits == list(WAITS)


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "the disk is full.*HF_HOME"), (errno.EACCES, "cannot be written here")],
)
def test_a_disk_that_takes_no_more(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    message: str,
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fail)
    with pytest.raises(StudyError, match=message):
        fetch(tmp_path)
    assert hub.waits == []


@pytest.mark.parametrize("in_cache", [True, False])
def test_jobs_that_want_the_same_file_fetch_it_once(
    hub: HubServer, tmp_path: Path, in_cache: bool
) -> None:
    folder = None if in_cache else tmp_path / "to"
    with ThreadPoolExecutor() as pool:
        for path in pool.map(fetch, [folder] * 4):
            assert path.read_bytes() == BYTES
    assert hub.fetched()[WEIGHTS] == 1


def test_the_cache_is_that_of_the_client_of_the_hub(hub: HubServer) -> None:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(NAME, WEIGHTS, revision=HubSnapshot.find(NAME).commit)
    fetched = hub.fetched()[WEIGHTS]
    assert str(fetch()) == path
    assert hub.fetched()[WEIGHTS] == fetched


def test_names_that_lead_out_of_the_repository_are_refused(hub: HubServer, tmp_path: Path) -> None:
    name = "../../model.safetensors"
    hub.repository(NAME).commit({name: b"outside"})
    for folder in (None, tmp_path / "to" / "a" / "folder"):
        with pytest.raises(StudyError, match="cannot be downloaded"):
            fetch(folder, name)
