"""Text to train on: documents, and how they are read from a user's own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.documents import SkippedRows, texts_in
from glossogenesis.errors import StudyError


@dataclass(frozen=True)
class Document:
    """One text and the languages that occur in it."""

    text: str
    languages: tuple[str, ...]


def read_documents(path: Path | str, language: str) -> list[Document]:
    """Read the documents of a file in its own order, as `texts_in` does; say what was skipped.

    StudyError where the file is bad or holds no text.
    """
    skipped = SkippedRows()
    texts = texts_in(path, on_bad_row="skip", skipped=skipped)
    documents = [Document(text, (language,)) for text in texts]
    if str(skipped):
        print(f"{path}: skipped {skipped}")
    if not documents:
        raise StudyError(f"{path}: holds no text; fill it or take it out of `text.files`")
    return documents
