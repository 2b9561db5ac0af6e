"""The Parquet files of a dataset on the Hugging Face Hub, downloaded one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.hub.errors import HubPlace, patiently
from glossogenesis.hub.files import (
    KeptRevision,
    forget_others,
    keep_revision,
    kept_revision,
    resolved,
)
from glossogenesis.storage.hub_files import HubSnapshot, cached_commit, fetch_file

SHOWN_FILES = 3
"""Files that an error message gives as examples."""

MEND_OFFLINE = (
    "prepare the corpus once where the Hub can be reached, without `hub.offline` and HF_HUB_OFFLINE"
)


@dataclass(frozen=True)
class HubDataset:
    """A dataset at one commit."""

    dataset: str
    commit: str
    files: tuple[str, ...]
    """Every file of the dataset at that commit, in the order of names."""
    snapshot: HubSnapshot | None
    """What the Hub lists; None where only the Hub's cache is used."""

    @classmethod
    def find(
        cls,
        dataset: str,
        revision: str | None,
        *,
        offline: bool = False,
        record: Path | None = None,
    ) -> HubDataset:
        """Resolve a revision (a branch, tag or commit; `main` where None) and list its files.

        With `offline`, or HF_HUB_OFFLINE, both are what the Hub's cache has of an earlier download.
        A revision of which `record` keeps a commit stands for that commit again. StudyError where
        there is no such dataset or revision, or the Hub cannot be reached.
        """
        from huggingface_hub import constants

        if offline or constants.is_offline_mode():
            return cls._cached(dataset, revision, record)
        snapshot = resolved(dataset, revision, "dataset", record)
        forget_others(record, [(dataset, revision)])
        _cache_list_of_files(snapshot)
        names = tuple(file.path for file in snapshot.files)
        return cls(dataset, snapshot.commit, names, snapshot)

    @classmethod
    def _cached(cls, dataset: str, revision: str | None, record: Path | None) -> HubDataset:
        from huggingface_hub import constants, get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        kept = kept_revision(record, dataset, revision)
        commit = kept.commit if kept else cached_commit(dataset, revision, "dataset")
        try:
            tree = get_cached_repo_tree(dataset, repo_type="dataset", revision=commit or revision)
        except CachedRepoTreeNotFoundError:
            place = HubPlace(dataset, commit or revision, "dataset")
            raise StudyError(
                f"{place}: offline, and the Hub's cache {constants.HF_HUB_CACHE} has no list of "
                f"its files; {MEND_OFFLINE}"
            ) from None
        assert commit is not None, "a list is kept by its commit"
        if kept is None:
            keep_revision(record, KeptRevision(dataset, revision, commit))
        return cls(dataset, commit, tuple(sorted(file.path for file in tree)), None)

    def matching(self, pattern: str, language: str) -> tuple[str, ...]:
        """Return the Parquet files whose names match a pattern, in the order of names.

        `*` matches slashes too. StudyError where there are none.
        """
        parquet = [name for name in self.files if name.endswith(".parquet")]
        found = tuple(name for name in parquet if fnmatchcase(name, pattern))
        if not found:
            shown = ", ".join(parquet[:SHOWN_FILES]) if parquet else "none"
            raise StudyError(
                f"{self.dataset}: none of its {len(parquet)} Parquet files matches "
                f"`text.files.{language}: {pattern}` (its first: {shown}); mend the pattern"
            )
        return found

    def download(self, name: str) -> Path:
        """Return a file on this machine, downloaded and verified unless the Hub's cache has it.

        StudyError where it cannot be downloaded, or only the cache is used and lacks it.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        if self.snapshot is not None:
            file = next(file for file in self.snapshot.files if file.path == name)
            return fetch_file(self.snapshot, file)
        try:
            path = hf_hub_download(
                self.dataset,
                name,
                repo_type="dataset",
                revision=self.commit,
                local_files_only=True,
            )
        except LocalEntryNotFoundError:
            place = HubPlace(self.dataset, self.commit, "dataset", name)
            raise StudyError(
                f"{place}: offline, and not in the Hub's cache; {MEND_OFFLINE}"
            ) from None
        return Path(path)


def _cache_list_of_files(snapshot: HubSnapshot) -> None:
    """Let the Hub's client keep the list of files in its cache, and download none of them.

    Without the whole list, a pattern would match only what was downloaded, and the text would be
    another one offline.
    """
    from huggingface_hub import snapshot_download

    def keep() -> None:
        snapshot_download(
            snapshot.repository,
            revision=snapshot.commit,
            repo_type=snapshot.kind,
            allow_patterns=[],
        )

    patiently(keep, HubPlace(snapshot.repository, snapshot.commit, snapshot.kind))
