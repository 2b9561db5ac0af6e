"""Files of a repository of the Hub at one commit, and which commits branches stood for.

The client keeps its cache, continues a lost connection and compares sizes. Here every file that the
Hub knows by a SHA-256, as it does weights, is compared with that too.

`results/revisions/{model}/{checkpoint}.json` and `results/revisions/{corpus}.json` are no outputs
of rules: they survive reruns, so that a checkpoint and the text of a corpus stay the same when a
branch of their repository moves.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from glossogenesis.exceptions import StudyError
from glossogenesis.hub.errors import HubPlace, patiently, study_error
from glossogenesis.storage.files import claimed, read_json, record_of, write_json
from glossogenesis.storage.provenance import file_digest

Kind = Literal["model", "dataset"]

SHOWN_DIGITS = 12
"""Of a commit, in messages."""

COMMIT_PATTERN = r"^[0-9a-f]{40}$"


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it."""

    path: str
    """Within the repository."""
    sha256: str | None
    """Of a file in large file storage, as weights are."""


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

        The Hub's cache is given what a branch or tag stands for. StudyError where there is no such
        repository or revision, or the Hub cannot be reached.
        """
        from huggingface_hub import HfApi, RepoFile

        def ask() -> HubSnapshot:
            api = HfApi()
            commit = api.resolve_revision(repository, revision=revision, repo_type=kind).resolved
            listed = api.list_repo_tree(repository, recursive=True, revision=commit, repo_type=kind)
            files = [
                HubFile(file.path, file.lfs.sha256 if file.lfs else None)
                for file in listed
                if isinstance(file, RepoFile)
            ]
            return cls(repository, kind, commit, tuple(sorted(files, key=lambda file: file.path)))

        return patiently(ask, HubPlace(repository, revision, kind))


def fetch_file(snapshot: HubSnapshot, file: HubFile, folder: Path | None = None) -> Path:
    """Bring a file into `folder`, or into the Hub's cache where None, and return its path.

    StudyError where it cannot be downloaded, or its bytes are twice not those that the Hub
    lists.
    """
    from huggingface_hub import hf_hub_download

    place = HubPlace(snapshot.repository, snapshot.commit, snapshot.kind, file.path)

    def download() -> Path:
        path = hf_hub_download(
            snapshot.repository,
            file.path,
            repo_type=snapshot.kind,
            revision=snapshot.commit,
            local_dir=folder,
        )
        return Path(path)

    # Into a folder, each job would download, and first remove what another one has just made.
    with claimed(folder / file.path) if folder else nullcontext():
        for _ in range(2):
            path = patiently(download, place)
            if file.sha256 is None or file_digest(path) == file.sha256:
                return path
            # In the cache it is a link, and what it leads to is the damaged file.
            path.resolve().unlink(missing_ok=True)
    raise StudyError(
        f"{place}: arrived twice with another SHA-256 than the Hub lists ({file.sha256}); run "
        "again later, or download it by other means and give its folder"
    )


def cached_commit(repository: str, revision: str | None, kind: Kind = "model") -> str | None:
    """Return the commit that the Hub's cache knows a revision by, None where it has none.

    StudyError where `repository` cannot be one of the Hub.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RevisionResolutionError

    try:
        found = HfApi().resolve_revision(
            repository, revision=revision, repo_type=kind, local_files_only=True
        )
    except RevisionResolutionError:
        return None
    except HFValidationError as error:
        raise study_error(error, HubPlace(repository, revision, kind)) from None
    return found.resolved


@dataclass(frozen=True)
class KeptRevision:
    """A branch, tag or commit, and what it stood for when it was first fetched."""

    source: str
    revision: str | None
    """As the study has it; the default branch where None."""
    commit: str
    moved_to: str | None = None
    """The commit that it stands for now, where that is another."""

    def __str__(self) -> str:
        at = f"{self.source}@{self.revision or 'main'}"
        return (
            f"{at} has moved from {self.commit[:SHOWN_DIGITS]} to "
            f"{str(self.moved_to)[:SHOWN_DIGITS]}; the study keeps {self.commit}. To take the new "
            "commit, write it as `revision`"
        )


@dataclass(frozen=True)
class _Record:
    revisions: tuple[KeptRevision, ...]


def revision_file(results: Path, *names: str) -> Path:
    """Return where the revisions of a checkpoint (of a model) or of a corpus are kept."""
    *folders, name = names
    return results.joinpath("revisions", *folders, f"{name}.json")


def resolved(repository: str, revision: str | None, kind: Kind, record: Path | None) -> HubSnapshot:
    """Ask the Hub for a revision's commit and files, or for those of the commit that is kept of it.

    That a branch has moved is kept and said. StudyError as in `HubSnapshot.find`, or where `record`
    is damaged.
    """
    kept = kept_revision(record, repository, revision)
    now = HubSnapshot.find(repository, revision, kind)
    if kept is None or kept.commit == now.commit:
        keep_revision(record, KeptRevision(repository, revision, now.commit))
        return now
    kept = replace(kept, moved_to=now.commit)
    keep_revision(record, kept)
    print(f"Warning: {kept}", file=sys.stderr, flush=True)
    return HubSnapshot.find(repository, kept.commit, kind)


def kept_revision(file: Path | None, source: str, revision: str | None) -> KeptRevision | None:
    """Return what is kept of a revision, None where nothing is; StudyError where it is damaged."""
    for kept in _read(file):
        if (kept.source, kept.revision) == (source, revision):
            return kept
    return None


def keep_revision(file: Path | None, kept: KeptRevision) -> None:
    """Keep a revision, in place of what was kept of it."""
    if file is None:
        return
    others = [
        other
        for other in _read(file)
        if (other.source, other.revision) != (kept.source, kept.revision)
    ]
    write_json(file, asdict(_Record((*others, kept))))


def forget_others(file: Path | None, asked: Collection[tuple[str, str | None]]) -> None:
    """Forget revisions that the study no longer has; `asked` are sources with theirs."""
    kept = _read(file)
    wanted = [one for one in kept if (one.source, one.revision) in asked]
    if file is not None and wanted != kept:
        write_json(file, asdict(_Record(tuple(wanted))))


def moved(results: Path, recorded: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a line on every branch that had moved when its files were last fetched.

    `recorded` are the study's checkpoints and corpora, as in `revision_file`. A record that cannot
    be read is a line as well: this is said at the end of a run, and must not make it fail.
    """
    lines = []
    for names in recorded:
        try:
            kept = _read(revision_file(results, *names))
        except StudyError as error:
            lines.append(str(error))
            continue
        lines += [f"{' '.join(names)}: {one}" for one in kept if one.moved_to]
    return lines


def _read(file: Path | None) -> list[KeptRevision]:
    if file is None or not file.is_file():
        return []
    content = read_json(file)
    try:
        return list(record_of(_Record, content).revisions)
    except ValueError as error:
        raise StudyError(
            f"{file}: no record of revisions ({error}); restore it, or delete it to take what the "
            "branches stand for now"
        ) from None


def is_commit(revision: str | None) -> bool:
    """Return whether a revision is written as a full commit, which no branch can move."""
    return revision is not None and re.match(COMMIT_PATTERN, revision) is not None
