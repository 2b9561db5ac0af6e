"""The files of a checkpoint: from a folder or the Hub, checked before anything is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.models.checkpoints import TOKENIZER_FILES, HubAccess, fetch_files


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
            raise StudyError(f"{location.source}: no such folder; mend `source` in the sheet")
        if location.revision is not None:
            raise StudyError(
                f"{location}: a local folder has no revision; leave `revision` empty in the sheet"
            )
        return _within(location, folder, commit=None)
    root, commit = fetch_files(location, weights=weights, access=access or HubAccess())
    return _within(location, root, commit=commit)


def holds_tokenizer(folder: Path) -> bool:
    """Tell whether there is a tokenizer in `folder`."""
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
        raise StudyError(f"{location}: no subfolder {location.subfolder!r}; mend the sheet")
    return LocalCheckpoint(folder, folder if holds_tokenizer(folder) else root, commit)
