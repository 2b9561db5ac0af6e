"""Files of the Hub: fetched through faults and verified; what stays wrong is one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from glossogenesis.errors import StudyError
from glossogenesis.storage import hub_files
from glossogenesis.storage.hub_errors import WAITS
from glossogenesis.storage.hub_files import HubFile, HubSnapshot, fetch_to, fetch_to_cache
from hub_server import HubServer, connected_hub

NAME = "someone/model"
WEIGHTS = "model.safetensors"
BYTES = bytes(range(256)) * 2000
SECRET = "hf_secretsecretsecret"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with connected_hub(monkeypatch, tmp_path) as hub:
        hub.repository(NAME).commit({WEIGHTS: BYTES, "config.json": b"{}"})
        yield hub


def fetch(target: Path, name: str = WEIGHTS) -> None:
    snapshot = HubSnapshot.find(NAME)
    fetch_to(snapshot, next(file for file in snapshot.files if file.path == name), target)


def refusal(target: Path, name: str = WEIGHTS) -> str:
    with pytest.raises(StudyError) as raised:
        fetch(target, name)
    message = str(raised.value)
    assert message.startswith(NAME)
    assert "\n" not in message
    assert SECRET not in message
    assert not target.exists()
    return message


def test_branches_tags_and_commits_lead_to_the_commit(hub: HubServer) -> None:
    repository = hub.repository(NAME)
    first = repository.refs["main"]
    repository.refs["v1/final"] = first
    second = repository.commit({WEIGHTS: b"later"})
    assert HubSnapshot.find(NAME).commit == second
    assert HubSnapshot.find(NAME, "v1/final").commit == first
    assert HubSnapshot.find(NAME, first).commit == first


def test_a_download_is_whole_and_leaves_nothing_beside_it(hub: HubServer, tmp_path: Path) -> None:
    fetch(tmp_path / "to" / WEIGHTS)
    assert (tmp_path / "to" / WEIGHTS).read_bytes() == BYTES
    assert [path.name for path in (tmp_path / "to").iterdir()] == [WEIGHTS]
    fetch(tmp_path / "to" / WEIGHTS)
    assert hub.fetched()[WEIGHTS] == 1


def test_dropped_connections_are_continued(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client writes to disk by parts of this size, of 10 MiB otherwise.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.faults.drop_after[WEIGHTS] = [100_000, 100_000]
    fetch(tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).read_bytes() == BYTES
    ranges = [asked for method, path, asked in hub.requests if path.endswith(WEIGHTS)]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_what_a_killed_process_fetched_is_not_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / f".{WEIGHTS}.part").write_bytes(BYTES[:300_000])
    fetch(tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).read_bytes() == BYTES
    assert hub.requests[-1][2] == "bytes=300000-"


@pytest.mark.parametrize("left", [b"rubbish", BYTES[:-1] + b"?", BYTES + b"more"])
def test_what_was_left_damaged_is_fetched_anew(hub: HubServer, tmp_path: Path, left: bytes) -> None:
    (tmp_path / f".{WEIGHTS}.part").write_bytes(left)
    fetch(tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).read_bytes() == BYTES


@pytest.mark.parametrize("damaged", [BYTES[:-8], BYTES[:-1] + b"?"])
def test_a_file_that_was_damaged_here_is_replaced(
    hub: HubServer, tmp_path: Path, damaged: bytes
) -> None:
    (tmp_path / WEIGHTS).write_bytes(damaged)
    fetch(tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).read_bytes() == BYTES


@pytest.mark.parametrize("fault", ["truncated", "wrong"])
def test_wrong_bytes_are_noticed_and_fetched_again(
    hub: HubServer, tmp_path: Path, fault: str
) -> None:
    getattr(hub.faults, fault)[WEIGHTS] = 1
    fetch(tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).read_bytes() == BYTES


def test_wrong_bytes_that_stay_are_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.wrong = {WEIGHTS: 9, "config.json": 9}
    assert f"{WEIGHTS}: arrived 3 times with other bytes" in refusal(tmp_path / WEIGHTS)
    message = refusal(tmp_path / "config.json", "config.json")
    assert "config.json: arrived 3 times with other bytes" in message
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("what", ["api", WEIGHTS])
def test_a_server_that_fails_is_asked_again_after_growing_waits(
    hub: HubServer, tmp_path: Path, status: int, what: str
) -> None:
    hub.faults.status[what] = [status] * 3
    fetch(tmp_path / WEIGHTS)
    assert hub.waits == list(WAITS[:3])


@pytest.mark.parametrize("what", ["api", WEIGHTS])
def test_a_limit_of_requests_is_waited_for(hub: HubServer, tmp_path: Path, what: str) -> None:
    hub.faults.status[what] = [429]
    hub.faults.retry_after = 40
    fetch(tmp_path / WEIGHTS)
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
        fetch(tmp_path / WEIGHTS)


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
    assert f"{WEIGHTS}: the Hub lists this file but does not" in refusal(tmp_path / WEIGHTS)
    assert hub.waits == []


def test_gated_repositories_need_a_token_that_is_in_no_message(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    hub.repository(NAME).gated = True
    hub.token = SECRET
    assert f"gated, and there is no token; accept its terms on {hub.url}/{NAME}" in refusal(
        tmp_path / WEIGHTS
    )
    monkeypatch.setenv("HF_TOKEN", "no-access")
    assert "the account of HF_TOKEN has no access" in refusal(tmp_path / WEIGHTS)
    monkeypatch.setenv("HF_TOKEN", "expired")
    assert "the Hub refuses the token" in refusal(tmp_path / WEIGHTS)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.faults.status[WEIGHTS] = [500]
    fetch(tmp_path / WEIGHTS)
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
        fetch(tmp_path / WEIGHTS)
    assert hub.waits == []


def test_jobs_that_want_the_same_file_fetch_it_once(hub: HubServer, tmp_path: Path) -> None:
    threads = [Thread(target=fetch, args=[tmp_path / WEIGHTS]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / WEIGHTS).read_bytes() == BYTES
    assert hub.fetched()[WEIGHTS] == 1
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_what_a_faster_job_has_mended_meanwhile_is_kept(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both jobs see the damaged file; the slower one goes on when the faster one has finished."""
    target = tmp_path / WEIGHTS
    target.write_bytes(b"damaged")
    look = HubFile.is_at

    def look_slowly(file: HubFile, path: Path) -> bool:
        found = look(file, path)
        if path == target and not found:
            target.write_bytes(BYTES)
        return found

    monkeypatch.setattr(HubFile, "is_at", look_slowly)
    fetch(target)
    assert target.read_bytes() == BYTES
    assert hub.fetched()[WEIGHTS] == 0
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_a_link_that_another_job_made_stays_in_place(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that has just linked a file opens it while a slower one links it too."""
    snapshot = HubSnapshot.find(NAME)
    weights = snapshot.files[-1]
    path = fetch_to_cache(snapshot, weights)
    look = HubFile.is_at
    monkeypatch.setattr(HubFile, "is_at", lambda file, at: at != path and look(file, at))
    removed: list[Path] = []
    monkeypatch.setattr(Path, "unlink", lambda at, **_: removed.append(at))
    assert fetch_to_cache(snapshot, weights).read_bytes() == BYTES
    assert removed == []
    assert [file.name for file in path.parent.iterdir()] == [WEIGHTS]


def test_a_file_that_vanishes_while_it_is_looked_at_is_not_there(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / WEIGHTS
    target.write_bytes(BYTES)

    def vanish(path: Path) -> str:
        path.unlink()
        raise FileNotFoundError(path)

    monkeypatch.setattr(hub_files, "file_digest", vanish)
    weights = HubSnapshot.find(NAME).files[-1]
    assert not weights.is_at(target)


def test_the_cache_is_laid_out_as_the_client_of_the_hub_does(
    hub: HubServer, tmp_path: Path
) -> None:
    """Its own function finds the files there and asks for nothing."""
    from huggingface_hub import hf_hub_download

    snapshot = HubSnapshot.find(NAME)
    paths = {file.path: fetch_to_cache(snapshot, file) for file in snapshot.files}
    asked = len(hub.requests)
    for name, path in paths.items():
        assert hf_hub_download(NAME, name, revision=snapshot.commit) == str(path)
        assert path.is_symlink()
    assert len(hub.requests) == asked
    blob = paths[WEIGHTS].resolve()
    assert blob.name == snapshot.files[-1].sha256
    # What another program left damaged in the cache is not taken.
    blob.write_bytes(BYTES[:-1] + b"?")
    assert fetch_to_cache(snapshot, snapshot.files[-1]).read_bytes() == BYTES


def test_what_the_client_of_the_hub_fetched_is_taken(hub: HubServer) -> None:
    from huggingface_hub import hf_hub_download

    snapshot = HubSnapshot.find(NAME)
    path = hf_hub_download(NAME, WEIGHTS, revision=snapshot.commit)
    fetched = hub.fetched()[WEIGHTS]
    assert str(fetch_to_cache(snapshot, snapshot.files[-1])) == path
    assert hub.fetched()[WEIGHTS] == fetched


def test_names_that_lead_out_of_the_repository_are_refused(hub: HubServer) -> None:
    hub.repository(NAME).commit({"../../model.safetensors": b""})
    with pytest.raises(StudyError, match="outside of the repository"):
        HubSnapshot.find(NAME)


def test_more_than_the_hub_sends_over_http_is_refused(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.MAX_HTTP_DOWNLOAD_SIZE", 1000)
    assert "fetch it with `hf download`" in refusal(tmp_path / WEIGHTS)
    assert hub_files.TRIALS_OF_BYTES == 3
