"""Where the documents of a corpus come from: files, a dataset of the Hub, or the demo world."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from glossogenesis.corpora.demo.world import check_same_language, same_language_documents
from glossogenesis.corpora.documents import SkippedRows, check_text_file, texts_in
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.exceptions import StudyError
from glossogenesis.hub.errors import HubPlace, patiently
from glossogenesis.hub.files import (
    HubSnapshot,
    KeptRevision,
    cached_commit,
    fetch_file,
    forget_others,
    keep_revision,
    kept_revision,
    resolved,
)
from glossogenesis.study.inputs import CorpusDemo, CorpusFiles, CorpusHub

GENERATED_AT_MOST = 10_000_000
"""Documents of a language that the demo world writes before it gives up to meet a budget."""

SHOWN_FILES = 3
"""Files that an error message gives as examples."""

FIX_OFFLINE = (
    "prepare the corpus once where the Hub can be reached, without `hub.offline` and HF_HUB_OFFLINE"
)


class CorpusText(Protocol):
    """The documents of a corpus, language by language."""

    @property
    def revision(self) -> str | None:
        """The resolved commit of a Hub dataset."""

    def documents(self, language: str) -> Iterator[str]:
        """Yield a language's documents, reading no more than is asked for."""

    def source(self, language: str) -> dict[str, Any]:
        """Return what was read of a language so far, for the manifest."""

    def how_to_get_more(self, language: str) -> str:
        """Say what a user can do where a language has too little text."""


@dataclass(frozen=True)
class LocalText:
    """Text from the user's own files."""

    settings: CorpusFiles
    revision: str | None = None
    skipped: dict[str, SkippedRows] = field(default_factory=dict)
    """What was passed over of each language so far."""

    def __post_init__(self) -> None:
        for path in self.paths:
            check_text_file(path)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file, each once."""
        return tuple(
            dict.fromkeys(path for paths in self.settings.files.values() for path in paths)
        )

    def documents(self, language: str) -> Iterator[str]:
        """Yield the documents of a language's files, in the order written."""
        self.skipped[language] = SkippedRows()
        for path in self.settings.files[language]:
            yield from texts_in(
                path,
                text_column=self.settings.text_column,
                plain=self.settings.documents,
                on_bad_row=self.settings.on_bad_row,
                skipped=self.skipped[language],
            )

    def source(self, language: str) -> dict[str, Any]:
        """Return the files; their digests stand in the provenance."""
        return {"files": list(self.settings.files[language]), **_counted(self.skipped, language)}

    def how_to_get_more(self, language: str) -> str:
        """Name the key that lists the files."""
        return f"add files to `text.files.{language}`"


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
                f"its files; {FIX_OFFLINE}"
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
                f"`text.files.{language}: {pattern}` (its first: {shown}); fix the pattern"
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
                f"{place}: offline, and not in the Hub's cache; {FIX_OFFLINE}"
            ) from None
        return Path(path)


@dataclass(frozen=True)
class HubText:
    """Text from a dataset on the Hub, whose files are downloaded as they are needed."""

    settings: CorpusHub
    hub: HubDataset
    skipped: dict[str, SkippedRows] = field(default_factory=dict)
    """What was passed over of each language so far."""
    _read: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def find(
        cls, settings: CorpusHub, *, offline: bool = False, record: Path | None = None
    ) -> HubText:
        """Resolve the dataset; StudyError where it, or the files of a language, do not exist.

        With `offline`, only what the Hub's cache holds is taken. The resolved commit is kept in
        `record`, and taken again.
        """
        hub = HubDataset.find(settings.dataset, settings.revision, offline=offline, record=record)
        text = cls(settings, hub)
        for language, pattern in settings.files.items():
            text.hub.matching(pattern, language)
        return text

    @property
    def revision(self) -> str | None:
        """The dataset's resolved commit."""
        return self.hub.commit

    def documents(self, language: str) -> Iterator[str]:
        """Yield the documents of a language's files, in the order of their names."""
        read = self._read.setdefault(language, [])
        self.skipped[language] = SkippedRows()
        for name in self.hub.matching(self.settings.files[language], language):
            path = self.hub.download(name)
            read.append(name)
            yield from texts_in(
                path, text_column=self.settings.text_column, skipped=self.skipped[language]
            )

    def source(self, language: str) -> dict[str, Any]:
        """Return the dataset, its commit, and the files that were read."""
        return {
            "dataset": self.hub.dataset,
            "revision": self.hub.commit,
            "files": list(self._read.get(language, ())),
            **_counted(self.skipped, language),
        }

    def how_to_get_more(self, language: str) -> str:
        """Name the key that selects the files."""
        return f"let `text.files.{language}` match more files"


@dataclass(frozen=True)
class GeneratedText:
    """Text that the demo world writes."""

    settings: CorpusDemo
    concepts: Sequence[Concept]
    endonyms: Mapping[str, str]
    seed: int
    revision: str | None = None

    def __post_init__(self) -> None:
        check_same_language(self.concepts, self.settings.languages, self.settings.monolingual)

    def documents(self, language: str) -> Iterator[str]:
        """Yield documents that depend on the seed and the language alone."""
        documents = same_language_documents(
            random.Random(f"{self.seed} corpus {language}"),
            self.concepts,
            language,
            self.endonyms,
            monolingual=self.settings.monolingual,
            glossary=self.settings.glossary,
        )
        return islice(documents, GENERATED_AT_MOST)

    def source(self, language: str) -> dict[str, Any]:
        """Return nothing that was read: the settings say it all."""
        return {"files": []}

    def how_to_get_more(self, language: str) -> str:
        """Say that the lexicon bounds what can be written."""
        return "raise `lexicon.limit`"


def _counted(skipped: Mapping[str, SkippedRows], language: str) -> dict[str, int]:
    """Return the counts of skipped rows that are not 0, for the manifest."""
    rows = skipped.get(language, SkippedRows())
    counts = {"rows_without_text": rows.without_text, "bad_rows": rows.bad}
    return {name: count for name, count in counts.items() if count}


def local_paths(text: CorpusText) -> dict[str, Path]:
    """Return the files of the user's own that a corpus is made from, by how they are written."""
    return {path: Path(path) for path in text.paths} if isinstance(text, LocalText) else {}


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
