import bz2
import gzip
import json
import lzma
import os

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glossogenesis.corpora import documents
from glossogenesis.corpora.documents import SkippedRows, texts_in
from glossogenesis.exceptions import StudyError


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

    monkeypatch.setattr(documents, "ROWS_AT_ONCE", 2)
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"]}), table, row_group_size=2)
    texts = texts_in(table)
    assert [next(texts), next(texts)] == ["a", "b"]


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


ROW = '{"id": 0, "url": "u", "text": "dog sun"}\n'


@pytest.mark.parametrize("name", ["en.json", "x.ndjson", "x.jsonl", "X.JSONL", "a.b.json"])
def test_json_lines_have_several_names(tmp_path, name):
    path = tmp_path / name
    path.write_text("\ufeff" + ROW + ROW, encoding="utf-8")
    assert list(texts_in(path)) == ["dog sun"] * 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wiki_00", ROW, r"first line is a JSON object, .*rename it to wiki_00.jsonl"),
        ("a.txt", "\n " + ROW, "first line is a JSON object"),
        ("a.csv", "id,text\n1,dog", "a table, .*save it as JSON lines .* or Parquet"),
        ("a.tsv", "id\ttext", "a table"),
        ("a.csv.gz", "id,text\n1,dog", "a table"),
        ("a.json", '[\n{"text": "dog"}]', r"one JSON value over several lines; .*jq -c"),
        ("a.json", '{\n "text": "dog"\n}', "one JSON value over several lines"),
        ("wiki_00", '<doc id="12" url="u">\ndog\n</doc>', "markup and no plain text; .*--json"),
        ("a.xml", "<?xml version='1.0'?><mediawiki>", "markup and no plain text"),
        ("a.txt", "PK\x03\x04 and more", "a zip archive; unpack it"),
    ],
)
def test_what_is_no_text_by_its_content_is_refused_with_what_to_do(
    tmp_path, name, content, message
):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        texts_in(path)


def test_parquet_is_told_by_its_content(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "train-00000")
    assert list(texts_in(tmp_path / "train-00000")) == ["a", "b"]


COMPRESS = {
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read_as_what_they_hold(tmp_path, suffix):
    lines = tmp_path / f"a.jsonl{suffix}"
    lines.write_bytes(COMPRESS[suffix]((ROW * 3).encode()))
    assert list(texts_in(lines)) == ["dog sun"] * 3
    plain = tmp_path / f"a.txt{suffix}"
    plain.write_bytes(COMPRESS[suffix]("собака\n\nсолнце\n".encode()))
    assert list(texts_in(plain)) == ["собака", "солнце"]
    # The name does not say it, and need not.
    unnamed = tmp_path / "a.jsonl"
    unnamed.write_bytes(lines.read_bytes())
    assert list(texts_in(unnamed)) == ["dog sun"] * 3


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_damaged_compressed_file_is_named(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    whole = COMPRESS[suffix]((ROW + json.dumps({"text": os.urandom(3000).hex()})).encode())
    path.write_bytes(whole[:-200])
    with pytest.raises(StudyError, match=r"damaged (gzip|zstd|bzip2|xz) file \("):
        list(texts_in(path))


def test_two_compressed_parts_in_a_row_are_one_file(tmp_path):
    for suffix, compress in COMPRESS.items():
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(compress(ROW.encode()) * 2)
        assert list(texts_in(path)) == ["dog sun"] * 2, suffix


def test_null_texts_are_skipped_and_counted_like_empty_ones(tmp_path):
    lines = tmp_path / "a.jsonl"
    rows = [{"text": "a"}, {"text": None}, {"text": " "}, {"text": "b"}]
    lines.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", None, "", "b"]}), table)
    for path in (lines, table):
        skipped = SkippedRows()
        assert list(texts_in(path, skipped=skipped)) == ["a", "b"]
        assert str(skipped) == "2 rows without text"


def test_one_bad_row_is_skipped_where_that_is_asked_for(tmp_path):
    path = tmp_path / "a.jsonl"
    bad = ['{"text"', '{"id": 1}', '{"text": 5}', '{"text": "\\ud83d"}', "[]"]
    path.write_text("\n".join(['{"text": "a"}', *bad, '{"text": "b"}']), encoding="utf-8")
    skipped = SkippedRows()
    assert list(texts_in(path, on_bad_row="skip", skipped=skipped)) == ["a", "b"]
    assert skipped.bad == len(bad)
    assert str(skipped).startswith(f"5 bad rows, the first: {path}, line 2: not valid JSON")
    with pytest.raises(StudyError, match="line 2: not valid JSON"):
        list(texts_in(path, skipped=skipped))


def test_a_wrong_key_is_no_bad_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "a"}\n{"text": "b"}', encoding="utf-8")
    with pytest.raises(StudyError, match="line 1: no string under 'text'"):
        list(texts_in(path, on_bad_row="skip"))


@pytest.mark.parametrize("blank", ["\u3000", "\u3000\t\u3000", "\u00a0", "\u200b", "\u2003 "])
def test_lines_that_show_nothing_end_paragraphs(tmp_path, blank):
    path = tmp_path / "a.txt"
    path.write_text(f"一\n\u3000二\n{blank}\n三", encoding="utf-8")
    assert list(texts_in(path)) == ["一\n\u3000二", "三"]
