"""A server that speaks the Hub's protocol on this machine, and fails as the Hub can fail."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

LARGE_FILES = (".safetensors", ".parquet", ".bin")
"""What the Hub keeps outside of git, known by SHA-256."""

API = re.compile(r"^/api/(models|datasets)/([^/]+/[^/]+?)(?:/(revision|tree)/([^/]+))?$")
RESOLVE = re.compile(r"^/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass
class Repository:
    """A model or dataset: files of each commit, and what branches and tags stand for."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit, move the branch to it, and return its id."""
        content = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[content] = dict(files)
        self.refs[branch] = content
        return content

    def commit_folder(self, folder: Path, branch: str = "main", prefix: str = "") -> str:
        """Add a commit of a folder's files."""
        files = {f"{prefix}{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
        return self.commit(files, branch)


@dataclass
class Faults:
    """What goes wrong, each for so many requests as its number says."""

    status: dict[str, list[int]] = field(default_factory=dict)
    """By path of a file, or `api`: statuses that are answered first, in order."""
    retry_after: int | None = None
    drop_after: dict[str, list[int]] = field(default_factory=dict)
    """By path of a file: after how many bytes the connection is dropped, request by request."""
    truncated: dict[str, int] = field(default_factory=dict)
    """By path of a file: how often it is sent without its last bytes, as if it were whole."""
    wrong: dict[str, int] = field(default_factory=dict)
    """By path of a file: how often its bytes are sent inverted."""
    gone: set[str] = field(default_factory=set)
    """Files that are listed and are not there."""


@dataclass
class HubServer:
    """Repositories by name (datasets as `datasets/...`), faults, and what was asked for."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    token: str | None = None
    """The one token that is valid."""
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path, and the range that was asked for."""
    waits: list[float] = field(default_factory=list)

    def repository(self, name: str) -> Repository:
        """Return a repository, made where there is none."""
        return self.repositories.setdefault(name, Repository())

    def fetched(self) -> Counter[str]:
        """Return how often the bytes of each file were asked for."""
        found = (RESOLVE.match(path) for method, path, _ in self.requests if method == "GET")
        return Counter(match[4] for match in found if match)


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Run a server on a free port."""
    hub = HubServer()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: HubServer

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.served.requests.append((self.command, path, self.headers.get("Range")))
        if match := API.match(urlsplit(self.path).path):
            self._answer_api(*match.groups())
        elif match := RESOLVE.match(path):
            self._answer_file(f"{match[1] or ''}{match[2]}", match[3], match[4])
        else:
            self._refuse(404, "no such page")

    def _answer_api(self, kind: str, name: str, verb: str | None, revision: str | None) -> None:
        repository = self._opened(name if kind == "models" else f"datasets/{name}", "api")
        if repository is None:
            return
        revision = unquote(revision or "main")
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "Invalid rev id", code="RevisionNotFound")
            return
        files = [_listed(path, data) for path, data in repository.commits[commit].items()]
        if verb == "tree":
            tree = [
                {"type": "file", "oid": f["blobId"], "path": f["rfilename"], **f} for f in files
            ]
            self._send_json(tree)
        else:
            self._send_json({"id": name, "sha": commit, "siblings": files})

    def _answer_file(self, name: str, commit: str, path: str) -> None:
        repository = self._opened(name, path)
        if repository is None:
            return
        commit = repository.refs.get(commit, commit)
        data = repository.commits.get(commit, {}).get(path)
        if data is None or path in self.served.faults.gone:
            self._refuse(404, "Entry not found", code="EntryNotFound")
            return
        listed = _listed(path, data)
        data = self._damaged(path, data)
        start = 0
        if asked := re.match(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
        self.send_response(206 if start else 200)
        digest = listed["lfs"]["sha256"] if "lfs" in listed else listed["blobId"]
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Linked-Etag", f'"{digest}"')
        self.send_header("X-Linked-Size", str(listed["size"]))
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self._send_body(path, data[start:])

    def _send_body(self, path: str, body: bytes) -> None:
        drops = self.served.faults.drop_after.get(path, [])
        if drops:
            self.wfile.write(body[: drops.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
        else:
            self.wfile.write(body)

    def _damaged(self, path: str, data: bytes) -> bytes:
        if self.command != "GET":
            return data
        if _uses_up(self.served.faults.truncated, path):
            data = data[:-8]
        if _uses_up(self.served.faults.wrong, path):
            data = bytes(255 - byte for byte in data)
        return data

    def _opened(self, name: str, what: str) -> Repository | None:
        """Return a repository that may be read; else answer why not."""
        statuses = self.served.faults.status.get(what)
        if statuses:
            self._refuse(
                statuses.pop(0), "as asked for", retry_after=self.served.faults.retry_after
            )
            return None
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if sent and self.served.token and sent not in (self.served.token, "no-access"):
            self._refuse(401, "Invalid credentials in Authorization header")
            return None
        repository = self.served.repositories.get(name)
        if repository is None:
            self._refuse(404 if sent else 401, "Repository not found", code="RepoNotFound")
            return None
        if repository.gated and sent != self.served.token:
            self._refuse(403 if sent else 401, "Access is restricted", code="GatedRepo")
            return None
        return repository

    def _refuse(
        self, status: int, message: str, *, code: str | None = None, retry_after: int | None = None
    ) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _listed(path: str, data: bytes) -> dict[str, Any]:
    """Return a file as the Hub lists it."""
    blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    listed = {"rfilename": path, "size": len(data), "blobId": blob}
    if path.endswith(LARGE_FILES):
        digest = hashlib.sha256(data).hexdigest()
        listed["blobId"] = hashlib.sha1(digest.encode()).hexdigest()
        listed["lfs"] = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 134}
    return listed


def _uses_up(counts: dict[str, int], path: str) -> bool:
    if counts.get(path, 0) == 0:
        return False
    counts[path] -= 1
    return True


@contextmanager
def connected_hub(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[HubServer]:
    """Run a server that this process's client of the Hub talks to, without waiting in earnest.

    `hub.waits` gets the seconds that would have been waited.
    """
    with hub_server() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        pages = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", pages)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(time, "sleep", hub.waits.append)
        yield hub
