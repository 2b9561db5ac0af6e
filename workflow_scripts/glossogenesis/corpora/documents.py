"""Documents from a user's own files, one after the other, and which of them are held out.

What a file is, its content says: a name that does not fit is refused, with what to do.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import compression_of, opened, suffix_within

if TYPE_CHECKING:
    import pyarrow.parquet as pq

PlainDocuments = Literal["paragraphs", "lines"]
OnBadRow = Literal["skip", "stop"]

JSON_LINES = (".jsonl", ".ndjson", ".json")
TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".ods")

ROWS_AT_ONCE = 1000
"""Rows of a Parquet file that are decoded at a time."""

BYTE_ORDER_MARK = "\ufeff"

LONGEST_BEGINNING = 1 << 20
"""Bytes of a file in which its first line is looked for."""

_MARKUP = re.compile(r"<(\?xml|!doctype|html|mediawiki|doc )", re.IGNORECASE)

Split = Literal["train", "held_out"]

SPLITS: tuple[Split, Split] = ("train", "held_out")

_HASHES = 2**64


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


@dataclass
class SkippedRows:
    """Rows of files that were passed over, counted while they are read."""

    without_text: int = 0
    """Rows whose text is null or has no character that can be seen."""
    bad: int = 0
    """Rows that cannot be read, or have no text under the key."""
    first_bad: str | None = None
    """What is wrong with the first of these."""

    def __str__(self) -> str:
        """What was skipped, empty where nothing was."""
        parts = [f"{self.without_text:,} rows without text"] if self.without_text else []
        if self.bad:
            parts.append(f"{self.bad:,} bad rows, the first: {self.first_bad}")
        return "; ".join(parts)

    def count_bad(self, problem: str) -> None:
        """Count a row that cannot be read."""
        self.bad += 1
        self.first_bad = self.first_bad or problem


def texts_in(
    path: Path | str,
    *,
    text_column: str = "text",
    plain: PlainDocuments = "paragraphs",
    on_bad_row: OnBadRow = "stop",
    skipped: SkippedRows | None = None,
) -> Iterator[str]:
    """Yield the documents of a file in its own order; those without text are skipped.

    `.jsonl`, `.ndjson` and `.json` hold an object a line and `.parquet` one row per document, each
    with its text under `text_column`; anything else is plain UTF-8 text in which a document is a
    block between empty lines (`paragraphs`) or a line (`lines`). Each may be compressed by gzip,
    zstd, bzip2 or xz. A row of JSON lines that cannot be read is skipped where `on_bad_row` says
    so, but for a file's first, which shows a wrong key. `skipped` counts. StudyError names the
    file, the line or row, and the fix.
    """
    path = Path(path)
    counted = SkippedRows() if skipped is None else skipped
    kind = check_text_file(path)
    if kind == "json":
        texts = _json_lines(path, text_column, counted if on_bad_row == "skip" else None)
    elif kind == "parquet":
        texts = _parquet_rows(path, text_column)
    else:
        texts = _paragraphs(path) if plain == "paragraphs" else _lines(path)
    return _with_text(texts, counted, plain=kind == "plain")


def check_text_file(path: Path | str) -> Literal["json", "parquet", "plain"]:
    """Return what a text file is; StudyError where there is none, or its name says another."""
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path}: no such text file; see `text.files` in the study")
    suffix = suffix_within(path)
    with opened(path) as file:
        beginning = file.read(LONGEST_BEGINNING)
    if beginning.startswith(b"PAR1") or suffix == ".parquet":
        if compression_of(path) is not None:
            raise StudyError(f"{path}: a compressed Parquet file; unpack it")
        return "parquet"
    if suffix in TABLES:
        raise StudyError(
            f"{path}: a table, whose column of text is unknown; save it as JSON lines "
            "(`.jsonl`) or Parquet, and name the column under `text_column`"
        )
    if beginning.startswith((b"ARROW1", b"FEA1")):
        raise StudyError(f"{path}: an Arrow file; save it as Parquet")
    first = beginning.decode("utf-8", errors="replace").lstrip(BYTE_ORDER_MARK).lstrip()
    first_line = first.partition("\n")[0]
    if suffix in JSON_LINES:
        if first.startswith("[") or first_line.strip() == "{":
            raise StudyError(
                f"{path}: one JSON value over several lines; write an object a line, as by "
                f"`jq -c '.[]' {path.name}`"
            )
        return "json"
    if _is_object(first_line):
        raise StudyError(
            f"{path}: its first line is a JSON object, but its name says plain text; rename it to "
            f"{path.name}.jsonl"
        )
    if _MARKUP.match(first):
        raise StudyError(
            f"{path}: markup and no plain text; extract its text as JSON lines (WikiExtractor: "
            "`--json`), and name it `.jsonl`"
        )
    return "plain"


def _with_text(texts: Iterator[str | None], skipped: SkippedRows, *, plain: bool) -> Iterator[str]:
    for text in texts:
        if text is not None and text.strip():
            yield text
        elif not plain:
            # Of plain text, empty lines are what divides it.
            skipped.without_text += 1


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends, empty ones too."""
    with opened(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError:
                raise StudyError(
                    f"{path}, line {number}: not UTF-8 text; save the file as UTF-8"
                ) from None
            yield line.removeprefix(BYTE_ORDER_MARK if number == 1 else "").rstrip("\r\n")


def _paragraphs(path: Path) -> Iterator[str]:
    block: list[str] = []
    for line in _lines(path):
        if not _is_blank(line):
            block.append(line)
        elif block:
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)


def _is_blank(line: str) -> bool:
    """Return whether nothing of a line can be seen, such as an ideographic space (U+3000)."""
    return all(
        character.isspace() or unicodedata.category(character) in ("Cc", "Cf") for character in line
    )


def _json_lines(path: Path, text_column: str, skipped: SkippedRows | None) -> Iterator[str | None]:
    is_first = True
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            yield _text_of(line, text_column)
        except StudyError as error:
            problem = f"{path}, line {number}: {error}"
            if skipped is None or is_first:
                raise StudyError(problem) from None
            skipped.count_bad(problem)
        is_first = False


def _text_of(line: str, text_column: str) -> str | None:
    """Return the text of a row of JSON lines, None where it is null; StudyError says what is wrong.

    JSON can hold other values, and escape halves of surrogate pairs.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        raise StudyError(f"not valid JSON ({reason})") from None
    text = row.get(text_column, 0) if isinstance(row, dict) else 0
    if text is None:
        return None
    if not isinstance(text, str):
        raise StudyError(
            f"no string under {text_column!r}; each line is an object such as "
            f'{{"{text_column}": "..."}}'
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise StudyError(
            f"half of a surrogate pair in {text_column!r}, which is no character; remove it"
        ) from None
    return text


def _parquet_rows(path: Path, text_column: str) -> Iterator[str | None]:
    """Yield the texts of a Parquet file, a few rows of a row group at a time."""
    # pyarrow takes a moment to import, and plain text does not need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_text_column(path, file, text_column)
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[text_column]):
                yield from batch.column(0).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0]
        raise StudyError(f"{path}: damaged Parquet file ({first_line}); write it again") from None


def _check_text_column(path: Path, file: pq.ParquetFile, text_column: str) -> None:
    schema = file.schema_arrow
    if schema.names.count(text_column) != 1 or not _is_text(schema.field(text_column).type):
        raise StudyError(
            f"{path}: no column {text_column!r} of strings (there: {', '.join(schema.names)}); "
            "rename the column that holds the text"
        )


def _is_text(column: Any) -> bool:
    """Return whether a column's type is a string, plain or by a dictionary."""
    import pyarrow as pa

    if pa.types.is_dictionary(column):
        column = column.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(column) for test in tests)


def split_of(text: str, held_out_share: float) -> Split:
    """Return the split of a document.

    A document is held out where the first 8 bytes of the SHA-256 of its text, white space at both
    ends removed, are below `held_out_share` of their range. So identical documents lie in the same
    split, in every corpus of the same share, and a larger share holds out the same documents and
    more.
    """
    digest = hashlib.sha256(text.strip().encode("utf-8")).digest()
    hashed = int.from_bytes(digest[:8], "big")
    return "held_out" if hashed < held_out_share * _HASHES else "train"
