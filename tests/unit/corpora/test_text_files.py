import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glossogenesis.corpora import text_files
from glossogenesis.corpora.text_files import texts_in
from glossogenesis.errors import StudyError


def test_plain_text_is_a_paragraph_or_a_line_a_document(tmp_path):
    path = tmp_path / "a.en"
    path.write_bytes("\ufeffone\r\n two\n\n\t\nthree\n".encode())
    assert list(texts_in(path)) == ["one\n two", "three"]
    assert list(texts_in(path, plain="lines")) == ["one", " two", "three"]


def test_json_lines_have_their_text_under_any_key(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"body": "a\n\nb", "n": 1}, {"body": " "}, {"body": "ж"}]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert list(texts_in(path, text_column="body")) == ["a\n\nb", "ж"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary("int32", "string")])
def test_parquet_is_read_across_row_groups(tmp_path, kind):
    path = tmp_path / "a.parquet"
    texts = [f"text {number % 7}" for number in range(25)]
    column = pa.array(texts, pa.string()).cast(kind)
    pq.write_table(pa.table({"text": column, "id": range(25)}), path, row_group_size=4)
    assert list(texts_in(path)) == texts


def test_no_more_of_a_file_is_read_than_is_asked_for(tmp_path, monkeypatch):
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "fine"}\nnot read', encoding="utf-8")
    assert next(iter(texts_in(lines))) == "fine"

    monkeypatch.setattr(text_files, "ROWS_AT_ONCE", 2)
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", None]}), table, row_group_size=2)
    texts = texts_in(table)
    assert [next(texts), next(texts)] == ["a", "b"]
    with pytest.raises(StudyError, match=r"row 3: 'text' is empty"):
        next(texts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\n\xff", "line 2: not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text"', "line 2: not valid JSON"),
        ("a.jsonl", b'{"text": 1}', "line 1: no string under 'text'"),
        ("a.jsonl", b'{"text": "\\ud83d"}', "line 1: half of a surrogate pair"),
        ("a.parquet", b"PAR1", "damaged Parquet"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StudyError, match=message) as raised:
        list(texts_in(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_column_of_no_text_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": [1], "body": ["a"]}).write_parquet(path)
    with pytest.raises(StudyError, match=r"no column 'text' of strings \(there: text, body\)"):
        list(texts_in(path))
    with pytest.raises(StudyError, match="no such text file"):
        texts_in(tmp_path / "absent.txt")
