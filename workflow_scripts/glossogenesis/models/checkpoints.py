"""Where the files of a checkpoint come from: a folder or the Hub, and whose code may run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from glossogenesis.exceptions import StudyError
from glossogenesis.hub.files import (
    HubFile,
    HubSnapshot,
    KeptRevision,
    cached_commit,
    fetch_file,
    keep_revision,
    kept_revision,
    resolved,
)
from glossogenesis.models.weight_files import (
    check_supported,
    needed_weights,
    read_config,
    require_weights,
)

TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)

_CONFIGS = ("config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class CheckpointLocation:
    """Where a checkpoint is, as a row of the checkpoint sheet gives it."""

    source: str
    """A local folder or a Hub id such as `bigscience/bloom-560m`."""
    revision: str | None = None
    """A branch, tag or commit of a Hub id."""
    subfolder: str | None = None
    remote_code: str | None = None
    """The repository whose own code may be run, which is then this one; no code is run if None."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.source}{revision}{f'/{self.subfolder}' if self.subfolder else ''}"


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint whose files are on this machine."""

    folder: Path
    """Holds `config.json`, weights and, where the checkpoint ships one, the tokenizer."""
    tokenizer_folder: Path
    """`folder`, or the root above a subfolder that has no tokenizer of its own."""
    commit: str | None
    """The resolved commit of a Hub checkpoint; None for a folder."""


def local_files(
    location: CheckpointLocation, *, weights: bool = True, access: HubAccess | None = None
) -> LocalCheckpoint:
    """Find the files of a checkpoint, downloading them where it is a Hub id.

    Downloads are limited to JSON, tokenizer files and, with `weights`, safetensors, so pickles
    never reach the machine; `access` says how the Hub is used. A source that exists as a folder, or
    is written as a path (it begins with a dot, a slash or a tilde), is local.

    Raises:
        StudyError: there is no such folder, repository, revision or subfolder, the Hub cannot be
            reached, or a revision is asked of a folder.
    """
    folder = Path(location.source).expanduser()
    if folder.is_dir() or location.source.startswith((".", "/", "~")):
        if not folder.is_dir():
            raise StudyError(f"{location.source}: no such folder; fix `source` in the sheet")
        if location.revision is not None:
            raise StudyError(
                f"{location}: a local folder has no revision; leave `revision` empty in the sheet"
            )
        return _within(location, folder, commit=None)
    root, commit = fetch_files(location, weights=weights, access=access or HubAccess())
    return _within(location, root, commit=commit)


def holds_tokenizer(folder: Path) -> bool:
    """Return whether there is a tokenizer in `folder`."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of the tokenizer in `folder`, in order of name.

    Raises:
        StudyError: the folder holds none.
    """
    found = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not found:
        raise StudyError(f"{folder}: holds no tokenizer file such as tokenizer.json; add one")
    return found


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files that decide how `folder` tokenises text.

    That is `tokenizer.json` where there is one: the settings files beside it change with the
    version of transformers that saved them, while the tokens stay the same. Else it is all files in
    order of name.

    Raises:
        StudyError: the folder holds none.
    """
    digest = hashlib.sha256()
    found = tokenizer_files(folder)
    if folder / "tokenizer.json" in found:
        found = [folder / "tokenizer.json"]
    for path in found:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _within(location: CheckpointLocation, root: Path, *, commit: str | None) -> LocalCheckpoint:
    folder = root / location.subfolder if location.subfolder else root
    if not folder.is_dir():
        raise StudyError(f"{location}: no subfolder {location.subfolder!r}; fix the sheet")
    return LocalCheckpoint(folder, folder if holds_tokenizer(folder) else root, commit)


@dataclass(frozen=True)
class HubAccess:
    """How the Hub is used for one checkpoint."""

    offline: bool = False
    """Whether only files on this machine are taken; so is with HF_HUB_OFFLINE."""
    folder: Path | None = None
    """Where downloads go; the Hub's cache where None."""
    record: Path | None = None
    """Where resolved commits are kept; nowhere where None."""

    @property
    def is_offline(self) -> bool:
        """Whether the network is not to be used."""
        from huggingface_hub import constants

        return self.offline or bool(constants.is_offline_mode())


def fetch_files(
    location: CheckpointLocation, *, weights: bool, access: HubAccess
) -> tuple[Path, str]:
    """Return the folder that holds a repository's files on this machine, and its commit.

    A revision that was resolved before stands for the same commit again; that its branch has moved
    is kept and said. StudyError where the files cannot be downloaded, what is needed is not there,
    or the weights are pickles.
    """
    if access.is_offline:
        return _files_at_hand(location, weights, access)
    snapshot = resolved(location.source, location.revision, "model", access.record)
    small, heavy = _wanted(snapshot, location, weights)
    for file in small:
        path = fetch_file(snapshot, file, access.folder)
    root = access.folder or path.parents[len(PurePosixPath(file.path).parents) - 1]
    if heavy:
        # What the weights are of is known before they are there.
        folder = root / (location.subfolder or "")
        check_supported(read_config(folder), folder / "config.json")
    for file in heavy:
        fetch_file(snapshot, file, access.folder)
    return root, snapshot.commit


def _wanted(
    snapshot: HubSnapshot, location: CheckpointLocation, weights: bool
) -> tuple[list[HubFile], list[HubFile]]:
    """Return the files that a checkpoint needs: small ones, and its weights where they are."""
    folder = PurePosixPath(location.subfolder or ".")
    inside = [file for file in snapshot.files if PurePosixPath(file.path).parent == folder]
    if not inside:
        raise StudyError(f"{location}: no subfolder {location.subfolder!r}; fix the sheet")
    patterns = ["*.json", *TOKENIZER_FILES, *(["*.py"] if location.remote_code else [])]
    found = [file for file in inside if _matches(file, patterns)]
    if location.subfolder:
        # The root is only looked at for a tokenizer that its subfolders share.
        top = PurePosixPath(".")
        found += [
            file
            for file in snapshot.files
            if PurePosixPath(file.path).parent == top and _matches(file, TOKENIZER_FILES)
        ]
    if not found:
        raise StudyError(f"{location}: no config.json and no tokenizer there; fix the sheet")
    if not weights:
        return found, []
    names = [PurePosixPath(file.path).name for file in inside]
    require_weights(location, names)
    heavy = needed_weights(names)
    return found, [file for file in inside if _matches(file, heavy)]


def _files_at_hand(
    location: CheckpointLocation, weights: bool, access: HubAccess
) -> tuple[Path, str]:
    """Find a checkpoint on this machine, in the Hub's cache or among the study's downloads."""
    from huggingface_hub import constants

    source, revision = location.source, location.revision
    kept = kept_revision(access.record, source, revision)
    commit = kept.commit if kept else cached_commit(source, revision)
    if commit is not None:
        for root in filter(None, (_cached_snapshot(source, commit), access.folder)):
            folder = root / (location.subfolder or "")
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            if needed_weights(names) if weights else names:
                if kept is None:
                    keep_revision(access.record, KeptRevision(source, revision, commit))
                return root, commit
    raise StudyError(
        f"{location}: offline, and the Hub's cache {constants.HF_HUB_CACHE} has no "
        f"{'weights' if weights else 'files'} of {commit or 'this revision'}; fetch it once where "
        "the Hub can be reached, without `hub.offline` and HF_HUB_OFFLINE"
    )


def _cached_snapshot(source: str, commit: str) -> Path | None:
    """Return the folder of a commit in the Hub's cache, where it has any of its files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # Without patterns all files of the repository would have to be there.
        found = snapshot_download(source, revision=commit, local_files_only=True, allow_patterns=[])
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def _matches(file: HubFile, patterns: list[str] | tuple[str, ...]) -> bool:
    name = PurePosixPath(file.path).name
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def may_run_code(folder: Path, remote_code: str | None) -> bool:
    """Return whether a checkpoint may run code of its own repository.

    StudyError where it may, but its configuration takes code from yet another repository.
    """
    if remote_code is None:
        return False
    for name, reference in code_references(folder):
        # `repository--module.Class` would be fetched again, from wherever that is by now.
        if "--" in reference:
            raise StudyError(
                f"{folder / name}: takes code from another place ({reference}) than its own "
                f"files, and the study allows {remote_code} alone; use another model"
            )
    return True


def how_to_allow_code(folder: Path) -> str:
    """Return how to allow the code that a checkpoint names, nothing where it names none."""
    found = sorted({reference for _, reference in code_references(folder)})
    if not found:
        return ""
    return (
        f"; it names code of its own repository ({', '.join(found[:3])}), which is only run where "
        "`models.NAME.remote_code` names the repository and the sheet a full commit"
    )


def code_references(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the classes of foreign code that a checkpoint's configurations name, and where."""
    for name in _CONFIGS:
        try:
            content: Any = json.loads((folder / name).read_text(encoding="utf-8"))
            named = content.get("auto_map", {})
        except (OSError, ValueError, AttributeError):
            # Whoever reads these files next says what is wrong with them.
            continue
        values = named.values() if isinstance(named, dict) else [named]
        for value in values:
            references = value if isinstance(value, list) else [value]
            yield from ((name, reference) for reference in references if isinstance(reference, str))
