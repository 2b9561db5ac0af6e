import gzip
import json

import polars as pl
import pytest

from glossogenesis.corpora.posts import LabelledPost
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.posts import read_post_file
from glossogenesis.study.robustness import PostFiles

ROWS = [
    {"title": "質問", "body": "車の色\t赤\n青", "label": "cars", "views": "3"},
    {"title": "", "body": 'He said "no"', "label": "pets", "views": "4"},
    {"title": "相談", "body": "", "label": "cars", "views": "5"},
]
POSTS = [LabelledPost(row["label"], row["title"], row["body"]) for row in ROWS]


def columns(**changes):
    return PostFiles.model_validate({"kind": "files", "files": ["posts.tsv"], **changes})


def write_tsv(path, rows):
    pl.DataFrame(rows).write_csv(path, separator="\t", null_value="")


def write_jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")


def write_parquet(path, rows):
    pl.DataFrame(rows).write_parquet(path)


WRITERS = {"tsv": write_tsv, "jsonl": write_jsonl, "parquet": write_parquet}


@pytest.fixture(params=sorted(WRITERS))
def write(request, tmp_path):
    """Write rows as a file of one of the formats."""

    def of(rows):
        path = tmp_path / f"posts.{request.param}"
        WRITERS[request.param](path, rows)
        return path

    return of


def test_all_formats_hold_the_same_posts(write):
    assert read_post_file(write(ROWS), columns()) == POSTS


def test_columns_have_names_of_the_users_own(write):
    rows = [{"body": "x", "community": row["label"], "text": row["body"]} for row in ROWS[:2]]
    named = columns(title_column=None, body_column="text", label_column="community")
    assert read_post_file(write(rows), named) == [
        LabelledPost(row["label"], "", row["body"]) for row in ROWS[:2]
    ]


def test_labels_may_be_whole_numbers(write):
    rows = [{**row, "label": 233} for row in ROWS]
    assert {post.label for post in read_post_file(write(rows), columns())} == {"233"}


def test_null_is_an_empty_title_or_body(write):
    rows = [ROWS[0], {**ROWS[1], "title": None}, {**ROWS[2], "body": None}]
    assert read_post_file(write(rows), columns()) == POSTS


def test_parquet_may_hold_categories(tmp_path):
    table = pl.DataFrame(ROWS).with_columns(pl.col("label").cast(pl.Categorical))
    table.write_parquet(tmp_path / "posts.parquet")
    assert read_post_file(tmp_path / "posts.parquet", columns()) == POSTS


@pytest.mark.parametrize(
    ("column", "fix"),
    [
        ("label", "under `robustness.posts.text.label_column`"),
        ("body", "under `robustness.posts.text.body_column`"),
        ("title", "set it to null if posts have no titles"),
    ],
)
def test_a_missing_column_is_named(write, column, fix):
    path = write([{key: value for key, value in row.items() if key != column} for row in ROWS])
    with pytest.raises(StudyError, match=f"no column '{column}'") as caught:
        read_post_file(path, columns())
    assert str(path) in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize("label", ["", " ", None])
def test_an_empty_label_is_left_to_the_preparation(write, label):
    path = write([ROWS[0], {**ROWS[1], "label": label}])
    labels = [post.label.strip() for post in read_post_file(path, columns())]
    assert labels == [ROWS[0]["label"], ""]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: no object"),
        ('{"title": "a", "body": 3, "label": "x"}', "line 2: 3 in column 'body' is no string"),
        ('{"title": "a", "body": "b", "label": true}', "True in column 'label' is no string"),
        ('{"title": "a", "body": "\\ud800", "label": "x"}', "surrogate pair in column 'body'"),
        ('{"title": "a", "label": "x"}', "line 2: no column 'body'"),
    ],
)
def test_bad_lines_of_json_are_named(tmp_path, line, message):
    path = tmp_path / "posts.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f"{good}\n{line}\n{good}", encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        read_post_file(path, columns())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\tb", "line 3: 2 cells for 3 columns"),
        ("a\tb\tc\td", "line 3: 4 cells for 3 columns"),
        ('a\t"b" c\tx', "line 3: not a tab-separated row"),
        ('a\t"b\tx', "line 3: not a tab-separated row"),
    ],
)
def test_bad_lines_of_tsv_are_named(tmp_path, line, message):
    path = tmp_path / "posts.tsv"
    path.write_text(f"title\tbody\tlabel\na\tb\tc\n{line}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        read_post_file(path, columns())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "posts.csv",
            b"title,body,label",
            "read from .tsv, .jsonl, .ndjson, .json, .parquet files",
        ),
        ("posts.tsv", b"title\tbody\tlabel\n", "holds no post"),
        ("posts.tsv", b"title\tbody\tbody\tlabel\n", "column 'body' appears twice"),
        ("posts.tsv", "title\tbody\tlabel\n\xe9".encode("latin-1"), "not UTF-8"),
        ("posts.jsonl", b"\n", "holds no post"),
        ("posts.parquet", b"PAR1", "damaged Parquet file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StudyError, match=message) as caught:
        read_post_file(path, columns())
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StudyError, match="no such file of posts"):
        read_post_file(tmp_path / "posts.tsv", columns())


@pytest.mark.parametrize("name", ["posts.ndjson", "posts.json", "posts.jsonl.gz", "posts.tsv.gz"])
def test_json_lines_by_other_names_and_compressed_tables_are_read(tmp_path, name):
    path = tmp_path / name
    plain = tmp_path / name.removesuffix(".gz")
    (write_tsv if ".tsv" in name else write_jsonl)(plain, ROWS)
    path.write_bytes(plain.read_bytes())
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_post_file(path, columns()) == POSTS


def test_surplus_empty_cells_mean_nothing(tmp_path):
    path = tmp_path / "posts.tsv"
    write_tsv(path, ROWS[1:2])
    plain = read_post_file(path, columns())
    path.write_text("".join(f"{line}\t\t\n" for line in path.read_text().splitlines()))
    assert read_post_file(path, columns()) == plain
