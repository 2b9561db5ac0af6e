"""Files of a repository of the Hub at one commit: listed, downloaded by its client, and verified.

The client keeps its cache, continues a lost connection and compares sizes. Here every file that the
Hub knows by a SHA-256, as it does weights, is compared with that too.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glossogenesis.errors import StudyError
from glossogenesis.hub.errors import HubPlace, patiently, study_error
from glossogenesis.storage.leases import claimed
from glossogenesis.storage.provenance import file_digest

Kind = Literal["model", "dataset"]


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
