"""A checkpoint on the Hub: its commit resolved first, then only the files that are needed."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from glossogenesis.errors import StudyError
from glossogenesis.hub.files import KeptRevision, keep_revision, kept_revision, resolved
from glossogenesis.models.config_file import read_config
from glossogenesis.models.limits import check_supported
from glossogenesis.models.weight_files import needed_weights, require_weights
from glossogenesis.storage.hub_files import HubFile, HubSnapshot, cached_commit, fetch_file

if TYPE_CHECKING:
    from glossogenesis.models.files import CheckpointLocation

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
        raise StudyError(f"{location}: no subfolder {location.subfolder!r}; mend the sheet")
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
        raise StudyError(f"{location}: no config.json and no tokenizer there; mend the sheet")
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
