"""Read texts from a user's own files one after the other, never a whole file at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glossogenesis.errors import StudyError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

PlainDocuments = Literal["paragraphs", "lines"]

ROWS_AT_ONCE = 1000
"""Rows of a Parquet file that are decoded at a time."""

BYTE_ORDER_MARK = "\ufeff"


def texts_in(
    path: Path | str, *, text_column: str = "text", plain: PlainDocuments = "paragraphs"
) -> Iterator[str]:
    """Yield the documents of a file in its own order; those without text are skipped.

    `.jsonl` holds an object a line and `.parquet` a row a document, each with its text under
    `text_column`; anything else is plain UTF-8 text in which a document is a block between empty
    lines (`paragraphs`) or a line (`lines`). StudyError names the file, the line or row, and the
    mend.
    """
    path = Path(path)
    check_text_file(path)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        texts = _json_lines(path, text_column)
    elif suffix == ".parquet":
        texts = _parquet_rows(path, text_column)
    else:
        texts = _paragraphs(path) if plain == "paragraphs" else _lines(path)
    return (text for text in texts if text.strip())


def check_text_file(path: Path | str) -> None:
    """StudyError where there is no such file."""
    if not Path(path).is_file():
        raise StudyError(f"{path}: no such text file; see `text.files` in the study")


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends, empty ones too."""
    with path.open("rb") as file:
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
        if line.strip(" \t"):
            block.append(line)
        elif block:
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)


def _json_lines(path: Path, text_column: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise StudyError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
        if not isinstance(row, dict) or not isinstance(row.get(text_column), str):
            raise StudyError(
                f"{path}, line {number}: no string under {text_column!r}; each line is an object "
                f'such as {{"{text_column}": "..."}}'
            )
        if not _is_unicode(row[text_column]):
            raise StudyError(
                f"{path}, line {number}: half of a surrogate pair in {text_column!r}, which is no "
                "character; remove it"
            )
        yield row[text_column]


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be encoded; JSON can escape halves of surrogate pairs."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parquet_rows(path: Path, text_column: str) -> Iterator[str]:
    """Yield the texts of a Parquet file, a few rows of a row group at a time."""
    # pyarrow takes a moment to import, and plain text does not need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_text_column(path, file, text_column)
            row = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[text_column]):
                for text in batch.column(0).to_pylist():
                    row += 1
                    if text is None:
                        raise StudyError(
                            f"{path}, row {row}: {text_column!r} is empty; fill or remove the row"
                        )
                    yield text
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
    """Tell whether a column's type is a string, plain or by a dictionary."""
    import pyarrow as pa

    if pa.types.is_dictionary(column):
        column = column.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(column) for test in tests)
