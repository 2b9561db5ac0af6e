"""Read labelled posts from a user's own files: TSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.config.posts import PostFiles
from glossogenesis.corpora.documents import JSON_LINES
from glossogenesis.corpora.posts import LabelledPost
from glossogenesis.errors import StudyError
from glossogenesis.storage.compressed import suffix_within
from glossogenesis.storage.text import filled_cells, read_text

WHERE = "see `robustness.posts.text` in the study"


@dataclass(frozen=True)
class FileRow:
    """One row of a file, of whatever values."""

    values: Mapping[str, Any]
    place: str
    """File and line or row, for messages."""


def read_post_file(path: Path | str, columns: PostFiles) -> list[LabelledPost]:
    """Read the posts of a file in its own order.

    `.tsv` has a header, tabs between cells, and cells in double quotes where they hold tabs, line
    breaks or quotes; `.jsonl`, `.ndjson` and `.json` hold an object a line; `.parquet` a row a
    post. All but the last may be compressed. A label is a string or a whole number; a label, title
    or body that is null is empty. StudyError names the file, its line or row, and the column where
    one is missing or a value is no string.
    """
    path = Path(path)
    readers = {
        ".tsv": _tsv_rows,
        **dict.fromkeys(JSON_LINES, _json_rows),
        ".parquet": _parquet_rows,
    }
    suffix = suffix_within(path)
    if suffix not in readers:
        raise StudyError(f"{path}: posts are read from {', '.join(readers)} files; {WHERE}")
    if not path.is_file():
        raise StudyError(f"{path}: no such file of posts; {WHERE}")
    wanted = _wanted_columns(columns)
    posts = [_post(row, columns) for row in readers[suffix](path, wanted)]
    if not posts:
        raise StudyError(f"{path}: holds no post; fill it or take it out of the study")
    return posts


def _wanted_columns(columns: PostFiles) -> dict[str, str]:
    """Return the key of the study that names each column."""
    wanted = {columns.label_column: "label_column", columns.body_column: "body_column"}
    if columns.title_column is not None:
        wanted[columns.title_column] = "title_column"
    return wanted


def _tsv_rows(path: Path, wanted: Mapping[str, str]) -> Iterator[FileRow]:
    text = read_text(path, "file of posts", WHERE)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
    header: list[str] = []
    before = 0
    try:
        for cells in reader:
            place = f"{path}, line {before + 1}"
            before = reader.line_num
            if not header:
                header = filled_cells([cell.strip() for cell in cells])
                _require_columns(str(path), header, wanted)
            elif any(cell.strip() for cell in cells):
                cells = filled_cells(cells, len(header))
                if len(cells) != len(header):
                    raise StudyError(
                        f"{place}: {len(cells)} cells for {len(header)} columns; put a cell that "
                        "holds tabs or line breaks in double quotes"
                    )
                yield FileRow(dict(zip(header, cells, strict=True)), place)
    except csv.Error as error:
        raise StudyError(
            f"{path}, line {before + 1}: not a tab-separated row ({error}); double the quotes "
            "within a cell in quotes, and close it"
        ) from None


def _json_rows(path: Path, wanted: Mapping[str, str]) -> Iterator[FileRow]:
    # Not splitlines: JSON strings may hold other separators of lines.
    lines = read_text(path, "file of posts", WHERE).split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise StudyError(f"{place}: not valid JSON ({error.msg})") from None
        if not isinstance(row, dict):
            example = ", ".join(f'"{column}": "..."' for column in wanted)
            raise StudyError(f"{place}: no object; each line is one such as {{{example}}}")
        _require_columns(place, list(row), wanted)
        yield FileRow(row, place)


def _parquet_rows(path: Path, wanted: Mapping[str, str]) -> Iterator[FileRow]:
    try:
        _require_columns(str(path), list(pl.read_parquet_schema(path)), wanted)
        table = pl.read_parquet(path, columns=list(wanted))
        table = table.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    except (pl.exceptions.PolarsError, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise StudyError(f"{path}: damaged Parquet file ({first_line}); write it again") from None
    for number, row in enumerate(table.iter_rows(named=True), start=1):
        yield FileRow(row, f"{path}, row {number}")


def _require_columns(place: str, present: list[str], wanted: Mapping[str, str]) -> None:
    for column, key in wanted.items():
        if column not in present:
            or_none = ", or set it to null if posts have no titles" if key == "title_column" else ""
            raise StudyError(
                f"{place}: no column {column!r} (there: {', '.join(present)}); name the right one "
                f"under `robustness.posts.text.{key}`{or_none}"
            )
        if present.count(column) > 1:
            raise StudyError(f"{place}: column {column!r} appears twice; rename or remove one")


def _post(row: FileRow, columns: PostFiles) -> LabelledPost:
    label = row.values[columns.label_column]
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    return LabelledPost(
        "" if label is None else _checked(row, columns.label_column, label),
        "" if columns.title_column is None else _text(row, columns.title_column),
        _text(row, columns.body_column),
    )


def _text(row: FileRow, column: str) -> str:
    value = row.values[column]
    return "" if value is None else _checked(row, column, value)


def _checked(row: FileRow, column: str, value: Any) -> str:
    """Return a value that is text; JSON can hold others, and halves of surrogate pairs."""
    if not isinstance(value, str):
        raise StudyError(
            f"{row.place}: {value!r} in column {column!r} is no string; put it in quotes"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise StudyError(
            f"{row.place}: half of a surrogate pair in column {column!r}, which is no character; "
            "remove it"
        ) from None
    return value
