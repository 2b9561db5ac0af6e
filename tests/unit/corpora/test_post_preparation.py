import random

import pytest

from glossogenesis.corpora.post_preparation import prepare_posts
from glossogenesis.corpora.posts import LabelledPost
from glossogenesis.errors import StudyError


def post(label, body, title=""):
    return LabelledPost(label, title, body)


def many(label, number):
    return [post(label, f"{label} {count}") for count in range(number)]


def prepared(train, held_out=None, **changes):
    settings = {"separator": "\n", "held_out_share": 0.3, "seed": 0, **changes}
    return prepare_posts(train, held_out, **settings)


def texts(result, split):
    return result.table.filter(split=split)["text"].to_list()


def test_text_is_title_separator_and_body_stripped_and_composed():
    result = prepared(
        [
            post("a", " \u304b\u3099 ", "題 "),
            post("b ", "x\ny\n"),
            post("a", "", "題"),
            post("b", "z"),
        ],
        [post("a", "p"), post("b", "q", "t")],
        separator=" | ",
    )
    assert texts(result, "train") == ["題 | が", "x\ny", "題", "z"]
    assert texts(result, "held_out") == ["p", "t | q"]
    assert result.table["label"].to_list() == ["a", "b", "a", "b", "a", "b"]
    assert result.table["title"].to_list() == ["題", "", "題", "", "", "t"]


def test_an_empty_body_with_a_title_is_kept_and_counted():
    result = prepared([post("a", " ", "title"), *many("a", 4), *many("b", 4)])
    assert result.facts["empty_bodies"] == 1
    assert "title" in result.table["text"].to_list()


def test_a_text_of_two_labels_is_removed_wherever_it_stands():
    train = [*many("a", 3), *many("b", 3), post("a", "same"), post("a", "same")]
    result = prepared(train, [post("a", "p"), post("b", "q"), post("b", " same ")])
    assert result.facts == {
        "posts_read": 11,
        "duplicates_removed": 3,
        "repeated_removed": 0,
        "empty_bodies": 0,
        "train": 6,
        "held_out": 2,
        "labels": 2,
    }
    assert "same" not in result.table["text"].to_list()


def test_title_and_body_may_divide_one_text_otherwise():
    train = [*many("a", 3), *many("b", 3), post("a", "b\nc", "a"), post("b", "a\nb\nc")]
    assert prepared(train).facts["duplicates_removed"] == 2


def test_of_repeats_the_first_is_kept_and_training_posts_come_first():
    train = [post("a", "x"), *many("b", 2), post("a", "y"), post("a", "x")]
    held_out = [post("a", "y"), post("a", "z"), post("b", "w"), post("a", "z")]
    result = prepared(train, held_out)
    assert texts(result, "train") == ["x", "b 0", "b 1", "y"]
    assert texts(result, "held_out") == ["z", "w"]
    assert result.facts["repeated_removed"] == 3
    assert result.facts["duplicates_removed"] == 0


def test_each_label_has_its_share_and_a_post_in_each_split():
    result = prepared([*many("a", 10), *many("b", 2), *many("c", 3), *many("d", 40)])
    counts = dict(result.table.filter(split="held_out")["label"].value_counts().iter_rows())
    assert counts == {"a": 3, "b": 1, "c": 1, "d": 12}
    assert result.facts["train"] + result.facts["held_out"] == 55


@pytest.mark.parametrize(("share", "held_out"), [(0.01, 1), (0.99, 4)])
def test_no_share_empties_a_split(share, held_out):
    result = prepared([*many("a", 5), *many("b", 5)], held_out_share=share)
    assert result.facts["held_out"] == 2 * held_out


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_posts():
    posts = [*many("a", 30), *many("b", 30)]
    drawn = set(texts(prepared(posts), "held_out"))
    random.Random(0).shuffle(posts)
    assert set(texts(prepared(posts), "held_out")) == drawn
    assert set(texts(prepared(posts, seed=1), "held_out")) != drawn
    # A larger share holds out the same posts and more.
    assert set(texts(prepared(posts, held_out_share=0.5), "held_out")) > drawn


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ([*many("a", 3), post("b", "x")], None, "label 'b' has one post"),
        ([*many("a", 3), post("b", "x"), post("b", " x")], None, "label 'b' has one post .* 1 rep"),
        (many("a", 5), None, "all posts have the label 'a'"),
        (many("a", 5), [post("a", "x")], "all posts have the label 'a'"),
        ([*many("a", 3), *many("b", 3)], [post("a", "x"), post("b", "y"), *many("c", 2)],
         "label 'c' has held_out posts but no train posts; add some to `files`"),
        ([*many("a", 3), *many("b", 3)], [post("a", "x")],
         "label 'b' has train posts but no held_out posts; add some to `held_out_files`"),
        ([post("a", "x"), post("b", "x")], None, "no post is left after 2 posts of more than one"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused(train, held_out, message):
    with pytest.raises(StudyError, match=message):
        prepared(train, held_out)
