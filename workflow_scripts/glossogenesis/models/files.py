"""The files of a checkpoint: from a folder or the Hub, checked before anything is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError

_WEIGHT_PATTERN = "model*.safetensors"
_WEIGHT_INDEX = "model.safetensors.index.json"
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
_TOKENIZER_FILES = (
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


@dataclass(frozen=True)
class CheckpointLocation:
    """Where a checkpoint is, as a row of the checkpoint sheet gives it."""

    source: str
    """A local folder or a Hub id such as `bigscience/bloom-560m`."""
    revision: str | None = None
    """A branch, tag or commit of a Hub id."""
    subfolder: str | None = None

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


def local_files(location: CheckpointLocation, *, weights: bool = True) -> LocalCheckpoint:
    """Find the files of a checkpoint, downloading them where it is a Hub id.

    Downloads are limited to JSON, tokenizer files and, with `weights`, safetensors, so pickles
    never reach the machine. A source that exists as a folder, or is written as a path (it is
    absolute or starts with a dot), is local.

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
    root = _download(location, weights=weights)
    return _within(location, root, commit=root.name)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of the tokenizer in `folder`, in order of name.

    Raises:
        StudyError: the folder holds none.
    """
    found = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
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


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint.

    Raises:
        StudyError: it is missing or is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: missing; a checkpoint folder needs its config.json") from None
    except ValueError as error:
        raise StudyError(f"{path}: not readable as JSON ({error}); save it again") from None
    if not isinstance(config, dict):
        raise StudyError(f"{path}: not a JSON object; save it again")
    return config


def check_weights(folder: Path) -> list[Path]:
    """The weight files of a checkpoint, each present, complete and safetensors.

    Raises:
        StudyError: weights are pickles, missing or truncated; the message names the file.
    """
    index = folder / _WEIGHT_INDEX
    found = sorted(folder.glob(_WEIGHT_PATTERN))
    if not index.is_file() and not found:
        _refuse_without_weights(folder)
    paths = _indexed(index) if index.is_file() else found
    for path in paths:
        _check_complete(path)
    return paths


def _within(location: CheckpointLocation, root: Path, *, commit: str | None) -> LocalCheckpoint:
    folder = root / location.subfolder if location.subfolder else root
    if not folder.is_dir():
        raise StudyError(f"{location}: no subfolder {location.subfolder!r}; mend the sheet")
    own = any((folder / name).is_file() for name in _TOKENIZER_FILES)
    return LocalCheckpoint(folder, folder if own else root, commit)


def _download(location: CheckpointLocation, *, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["*.json", *_TOKENIZER_FILES]
    if weights:
        patterns.append(_WEIGHT_PATTERN)
    if location.subfolder:
        # The root is only looked at for a tokenizer that its subfolders share.
        patterns = [f"{location.subfolder}/{pattern}" for pattern in patterns]
        patterns += _TOKENIZER_FILES
    # A pattern's * also matches slashes: without this every subfolder would be downloaded.
    ignored = None if location.subfolder else ["*/*"]
    try:
        return Path(
            snapshot_download(
                location.source,
                revision=location.revision,
                allow_patterns=patterns,
                ignore_patterns=ignored,
            )
        )
    except HFValidationError:
        raise StudyError(
            f"{location.source}: neither a folder nor a Hub id; mend `source` in the sheet"
        ) from None
    except RevisionNotFoundError:
        raise StudyError(
            f"{location}: the Hub has no such revision; write a branch, a tag or a full commit"
        ) from None
    except RepositoryNotFoundError:
        raise StudyError(
            f"{location.source}: no such folder or Hub repository, or it needs `hf auth login`"
        ) from None
    except LocalEntryNotFoundError:
        raise StudyError(
            f"{location}: not in the local Hub cache and the Hub cannot be reached; connect, or "
            "download the checkpoint and give its folder as `source`"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise StudyError(f"{location}: download failed ({first_line}); run again") from None


def _refuse_without_weights(folder: Path) -> None:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLE_SUFFIXES)
    if pickles:
        raise StudyError(
            f"{folder}: weights are pickles ({', '.join(pickles[:3])}), which can run code when "
            "opened; convert them to safetensors and give the new folder as `source`"
        )
    raise StudyError(
        f"{folder}: no {_WEIGHT_PATTERN}; only safetensors weights are loaded. Convert the "
        "checkpoint to safetensors, or name the subfolder that holds it"
    )


def _indexed(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise StudyError(
            f"{index}: no readable weight_map ({error!r}); download it again"
        ) from None
    return [index.parent / name for name in sorted(names)]


def _check_complete(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StudyError(f"{path}: missing, though the index names it; download it again")
    try:
        # The header is enough, and numpy is lighter to import than torch.
        with safe_open(path, framework="np"):
            return
    except SafetensorError as error:
        raise StudyError(
            f"{path}: truncated or damaged ({error}); download or write it again"
        ) from None
