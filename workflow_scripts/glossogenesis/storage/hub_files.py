"""Files of a repository of the Hub at one commit: listed, fetched in parts, and verified.

What the client of the Hub lacks is here: a download that goes on where a killed process left it,
and a comparison of every file with the digest that the Hub lists.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal
from urllib.parse import quote
from uuid import uuid4

from glossogenesis.errors import StudyError
from glossogenesis.provenance import file_digest
from glossogenesis.storage.atomic import is_still_at, write_text
from glossogenesis.storage.hub_errors import HubPlace, patiently

TRIALS_OF_BYTES = 3
"""How often a file whose bytes are wrong is fetched anew."""

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it."""

    path: str
    """Within the repository."""
    bytes: int
    sha256: str | None
    """Of a file in large file storage, as weights are."""
    blob_id: str
    """Git's id; of a file in large file storage, that of what stands for it in git."""

    @property
    def digest(self) -> str:
        """What verifies the file, and names it in the Hub's cache."""
        return self.sha256 or self.blob_id

    def is_at(self, path: Path) -> bool:
        """Tell whether `path` holds exactly this file."""
        try:
            if not path.is_file() or path.stat().st_size != self.bytes:
                return False
            return (file_digest(path) if self.sha256 else _blob_id(path)) == self.digest
        except FileNotFoundError:
            # Another job has removed it meanwhile.
            return False


@dataclass(frozen=True)
class HubSnapshot:
    """A repository at one commit."""

    repository: str
    kind: Kind
    commit: str
    files: tuple[HubFile, ...]
    """In the order of paths."""

    @classmethod
    def find(
        cls, repository: str, revision: str | None = None, kind: Kind = "model"
    ) -> HubSnapshot:
        """Resolve a branch, tag or commit (the default branch where None) and list its files.

        StudyError where there is no such repository or revision, or the Hub cannot be reached.
        """
        from huggingface_hub import HfApi

        place = HubPlace(repository, revision, kind)

        def ask() -> Any:
            return HfApi().repo_info(
                repository, revision=revision, repo_type=kind, files_metadata=True, timeout=60
            )

        info = patiently(ask, place)
        files = [
            HubFile(
                listed.rfilename,
                listed.size,
                listed.lfs.sha256 if listed.lfs else None,
                listed.blob_id,
            )
            for listed in info.siblings or ()
        ]
        if info.sha is None or any(file.bytes is None or file.blob_id is None for file in files):
            raise StudyError(f"{place}: the Hub's answer lacks commit or sizes; check HF_ENDPOINT")
        if any(".." in PurePosixPath(file.path).parts for file in files):
            raise StudyError(f"{place}: lists a file outside of the repository; use another")
        return cls(repository, kind, info.sha, tuple(sorted(files, key=lambda file: file.path)))

    def place(self, file: str | None = None) -> HubPlace:
        """Return what messages call it, or a file of it."""
        return HubPlace(self.repository, self.commit, self.kind, file)

    def url(self, path: str) -> str:
        """Return where a file is fetched from."""
        from huggingface_hub import constants

        prefix = "datasets/" if self.kind == "dataset" else ""
        return f"{constants.ENDPOINT}/{prefix}{self.repository}/resolve/{self.commit}/{quote(path)}"


def fetch_to(snapshot: HubSnapshot, file: HubFile, target: Path) -> None:
    """Bring a file of the Hub to `target`, unless it is there, and verify it.

    An unfinished download stays beside it and is continued, also by another process. Jobs that
    want the same file wait for each other. StudyError where it cannot be fetched, or its bytes are
    not those that the Hub lists.
    """
    if file.is_at(target):
        return
    place = snapshot.place(file.path)
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(part) as handle:
            # Another job may have put it there meanwhile.
            if file.is_at(target):
                part.unlink(missing_ok=True)
                return
            # A damaged file, or a link to one that was removed.
            target.unlink(missing_ok=True)
            for _ in range(TRIALS_OF_BYTES):
                patiently(partial(_continue, snapshot, file, handle), place)
                if file.is_at(part):
                    os.fsync(handle.fileno())
                    part.replace(target)
                    return
                handle.truncate(0)
            part.unlink()
    except OSError as error:
        raise StudyError(
            f"{place}: cannot be put at {target} ({error.strerror}); mend it and run again"
        ) from None
    raise StudyError(
        f"{place}: arrived {TRIALS_OF_BYTES} times with other bytes than the Hub lists (SHA-256 or "
        f"git id {file.digest}); run again later, or download it by other means and give its folder"
    )


def fetch_to_cache(snapshot: HubSnapshot, file: HubFile) -> Path:
    """Bring a file into the Hub's cache, as its own client keeps it, and return its path there.

    That is `blobs/DIGEST`, and a link to it from `snapshots/COMMIT/PATH`. StudyError as `fetch_to`.
    """
    folder = cache_folder(snapshot.repository, snapshot.kind)
    path = folder / "snapshots" / snapshot.commit / file.path
    if not file.is_at(path):
        blob = folder / "blobs" / file.digest
        fetch_to(snapshot, file, blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another job may just have linked it, and must find it there at any moment.
        link = path.with_name(f".{path.name}.{uuid4().hex}.link")
        link.symlink_to(os.path.relpath(blob, path.parent))
        link.replace(path)
    return path


def cache_folder(repository: str, kind: Kind = "model") -> Path:
    """Return the folder of a repository in the Hub's cache."""
    from huggingface_hub import constants

    name = "--".join([f"{kind}s", *repository.split("/")])
    return Path(constants.HF_HUB_CACHE).expanduser() / name


def cached_commit(repository: str, revision: str | None, kind: Kind = "model") -> str | None:
    """Return the commit that the Hub's cache knows a branch or tag by, None where it has none."""
    path = cache_folder(repository, kind) / "refs" / (revision or "main")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def note_commit(repository: str, revision: str | None, commit: str, kind: Kind = "model") -> None:
    """Tell the Hub's cache what a branch or tag stands for, so that it is found offline."""
    if cached_commit(repository, revision, kind) != commit:
        # A cache that several people share may be read-only.
        with suppress(OSError):
            write_text(cache_folder(repository, kind) / "refs" / (revision or "main"), commit)


def _continue(snapshot: HubSnapshot, file: HubFile, handle: BinaryIO) -> None:
    """Fetch what an unfinished download lacks."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # not in its own list
        build_hf_headers,
    )

    if file.bytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise StudyError(
            f"{snapshot.place(file.path)}: {file.bytes / 1e9:,.0f} GB are too many for one file "
            "over HTTP; fetch it with `hf download` and give its folder as `source`"
        )
    have = handle.seek(0, os.SEEK_END)
    if have > file.bytes:
        have = handle.seek(0)
        handle.truncate()
    http_get(
        snapshot.url(file.path),
        handle,
        resume_size=have,
        # A compressed answer cannot be continued.
        headers={**build_hf_headers(), "Accept-Encoding": "identity"},
        expected_size=file.bytes,
        displayed_filename=file.path,
    )
    handle.flush()


@contextmanager
def _claimed(part: Path) -> Iterator[BinaryIO]:
    """Yield an unfinished download, this process's alone."""
    while True:
        with part.open("ab") as opened:
            # A file system without locks costs at most bytes that are verified and fetched anew.
            with suppress(OSError):
                fcntl.flock(opened, fcntl.LOCK_EX)
            # Whoever held it before may have renamed or removed it.
            if is_still_at(opened.fileno(), part):
                yield opened
                return


def _blob_id(path: Path) -> str:
    """Return git's id of a file: SHA-1 of its size and bytes."""
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
