"""Text to train on: documents, and how they are read from a user's own files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from glossogenesis.errors import StudyError

TEXT_COLUMN = "text"

_EMPTY_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


@dataclass(frozen=True)
class Document:
    """One text and the languages that occur in it."""

    text: str
    languages: tuple[str, ...]


def read_documents(path: Path | str, language: str) -> list[Document]:
    """Read the documents of a file in its own order.

    `.jsonl` holds an object a line and `.parquet` a row a document, each with `text`; anything
    else is plain UTF-8 text whose documents are separated by empty lines. Empty documents are
    skipped. StudyError names the file, the line and the mend.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path}: no such text file; see `text.files` in the study")
    readers = {".jsonl": _json_lines, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower(), _plain_text)
    documents = [Document(text, (language,)) for text in reader(path) if text.strip()]
    if not documents:
        raise StudyError(f"{path}: holds no text; fill it or take it out of `text.files`")
    return documents


def _decoded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _plain_text(path: Path) -> Iterator[str]:
    for text in _EMPTY_LINES.split(_decoded(path)):
        yield text.strip("\n")


def _json_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(_decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise StudyError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
        if not isinstance(row, dict) or not isinstance(row.get(TEXT_COLUMN), str):
            raise StudyError(
                f"{path}, line {number}: no string under {TEXT_COLUMN!r}; each line is an object "
                f'such as {{"{TEXT_COLUMN}": "..."}}'
            )
        yield row[TEXT_COLUMN]


def _parquet_rows(path: Path) -> Iterator[str]:
    try:
        columns = pl.read_parquet_schema(path)
        if columns.get(TEXT_COLUMN) != pl.String:
            raise StudyError(
                f"{path}: no column {TEXT_COLUMN!r} of strings (there: {', '.join(columns)}); "
                "rename the column that holds the text"
            )
        column = pl.read_parquet(path, columns=[TEXT_COLUMN])[TEXT_COLUMN]
    except pl.exceptions.PolarsError as error:
        raise StudyError(
            f"{path}: damaged Parquet file ({str(error).splitlines()[0]}); write it again"
        ) from None
    for row, text in enumerate(column, start=1):
        if text is None:
            raise StudyError(f"{path}, row {row}: {TEXT_COLUMN!r} is empty; fill or remove the row")
        yield text
