import polars as pl
import pytest

from glossogenesis.corpora.posts import POSTS_SCHEMA, posts_table, read_posts
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.tables import read_table, write_table
from support.tiny_posts import PROVENANCE, labelled_rows, write_posts

ROWS = [
    {"split": "train", "label": "pets", "title": "犬", "body": "元気です"},
    {"split": "held_out", "label": "cars", "body": "車を買う"},
    {"split": "train", "label": "cars", "body": "車の話"},
    {"split": "held_out", "label": "pets", "body": "猫の話"},
    {"split": "held_out", "label": "cars", "body": "車を売る"},
]


def test_posts_are_numbered_in_their_split_and_labels_by_the_alphabet(tmp_path):
    posts = read_posts(write_posts(tmp_path, ROWS))
    assert posts.table.schema == POSTS_SCHEMA
    assert posts.table["post"].to_list() == [0, 1, 2, 3, 4]
    assert posts.labels == ("cars", "pets")
    train, held_out = posts.of("train"), posts.of("held_out")
    assert train["text"].to_list() == ["犬\n元気です", "車の話"]
    assert held_out["number"].to_list() == [0, 1, 2]
    assert held_out["body"].to_list() == ["車を買う", "猫の話", "車を売る"]
    assert posts.label_ids("train").tolist() == [1, 0]
    assert posts.label_ids("held_out").tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: table.drop("body"), "not a table of posts"),
        (lambda table: table.reverse(), "not numbered in order"),
        (lambda table: table.filter(pl.col("number") != 0), "'train' are not numbered in order"),
        (lambda table: table.filter(pl.col("split") == "train"), "'held_out' are not numbered"),
        (lambda table: table.with_columns(post=pl.col("post") + 1), "not numbered in order"),
        (
            lambda table: table.with_columns(
                label=pl.when(pl.col("split") == "held_out")
                .then(pl.lit("boats"))
                .otherwise("label")
            ),
            "no training post has the label 'boats'",
        ),
    ],
)
def test_a_damaged_table_is_named(tmp_path, damage, message):
    path = write_posts(tmp_path, labelled_rows())
    write_table(path, damage(read_table(path)), PROVENANCE)
    with pytest.raises(StudyError, match=message) as caught:
        read_posts(path)
    assert str(path) in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(StudyError, match="no such file"):
        read_posts(tmp_path / "posts.parquet")


def test_a_split_may_not_be_called_otherwise(tmp_path):
    posts = read_posts(write_posts(tmp_path, ROWS))
    with pytest.raises(AssertionError):
        posts.of("test")


def test_rows_keep_their_order():
    row = {"label": "a", "title": "", "body": "x", "text": "x"}
    table = posts_table({"held_out": [row], "train": [row | {"text": "y"}, row | {"text": "z"}]})
    assert table["text"].to_list() == ["y", "z", "x"]
    assert table["number"].to_list() == [0, 1, 0]
