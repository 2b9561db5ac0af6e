"""Where the documents of each language of a corpus come from: files, the Hub, or the demo world."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from glossogenesis.corpora.demo.same_language import check_same_language, same_language_documents
from glossogenesis.corpora.documents import SkippedRows, check_text_file, texts_in
from glossogenesis.corpora.hub_dataset import HubDataset
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.study.inputs import CorpusDemo, CorpusFiles, CorpusHub

GENERATED_AT_MOST = 10_000_000
"""Documents of a language that the demo world writes before it gives up to meet a budget."""


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
