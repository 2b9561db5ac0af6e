import json

import polars as pl
import pytest

from glossogenesis.corpora.documents import read_documents
from glossogenesis.exceptions import StudyError


def texts(path):
    return [document.text for document in read_documents(path, "en")]


def test_plain_text_is_split_at_empty_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\none\ntwo\n\n  \nthree\n\n\n", encoding="utf-8")
    assert texts(path) == ["one\ntwo", "three"]
    assert read_documents(path, "en")[0].languages == ("en",)


def test_json_lines_and_parquet_hold_a_document_a_row(tmp_path):
    rows = ["first\n\nstill first", "второй"]
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    table = tmp_path / "a.parquet"
    pl.DataFrame({"text": rows, "other": [1, 2]}).write_parquet(table)
    assert texts(lines) == texts(table) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no text"),
        ("a.txt", b" \n\n ", "holds no text"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.jsonl", b'\n{"text"', "line 2: not valid JSON"),
        ("a.jsonl", b'{"body": "a"}', "line 1: no string under 'text'"),
        ("a.parquet", b"PAR1", "damaged Parquet"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StudyError, match=message) as raised:
        read_documents(path, "en")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(StudyError, match="no such text file"):
        read_documents(tmp_path / "absent.txt", "en")
    table = tmp_path / "a.parquet"
    pl.DataFrame({"body": ["a"]}).write_parquet(table)
    with pytest.raises(StudyError, match="no column 'text'"):
        read_documents(table, "en")


def test_what_is_skipped_is_said(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text"\n{"text": null}\n', encoding="utf-8")
    assert len(read_documents(path, "en")) == 1
    assert (
        "a.jsonl: skipped 1 rows without text; 1 bad rows, the first: " in capsys.readouterr().out
    )
