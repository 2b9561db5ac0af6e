import random

import pytest
from pydantic import ValidationError

from glossogenesis.corpora.posts import LabelledPost
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.posts import prepare_posts
from glossogenesis.study.robustness import PostsSettings


def post(label, body, title=""):
    return LabelledPost(label, title, body)


def many(label, number):
    return [post(label, f"{label} {count}") for count in range(number)]


def prepared(train, held_out=None, **changes):
    text = {"kind": "files", "files": ["posts.tsv"]}
    return prepare_posts(train, held_out, PostsSettings(text=text, language="ja", **changes))


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


def test_a_post_without_label_or_text_costs_itself_and_is_counted():
    unusable = [post("", "x"), post(" ", "y"), post("a", " ", "\n"), post("", "")]
    result = prepared([*many("a", 4), *unusable, *many("b", 4)])
    assert result.facts["posts_read"] == 12
    assert result.facts["without_label"] == 3
    assert result.facts["without_text"] == 1
    assert result.facts["train"] + result.facts["held_out"] == 8
    with pytest.raises(StudyError, match="after 3 posts without a label, 1 without text"):
        prepared(unusable)


def test_a_text_of_two_labels_is_removed_wherever_it_stands():
    train = [*many("a", 3), *many("b", 3), post("a", "same"), post("a", "same")]
    result = prepared(train, [post("a", "p"), post("b", "q"), post("b", " same ")])
    assert result.facts == {
        "posts_read": 11,
        "without_label": 0,
        "without_text": 0,
        "duplicates_removed": 3,
        "repeated_removed": 0,
        "not_drawn": 0,
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
        ([post("a", "x"), post("b", "x")], None, "2 of more than one label"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused(train, held_out, message):
    with pytest.raises(StudyError, match=message):
        prepared(train, held_out)


def counts(result):
    rows = result.table.group_by("split", "label").len().rows()
    return {(split, label): number for split, label, number in rows}


PER_LABEL = {"train": 7, "held_out": 3}


def test_so_many_posts_of_so_many_labels_are_drawn():
    posts = [each for label in "abcdef" for each in many(label, 12)] + many("g", 9)
    result = prepared(posts, labels=4, posts_per_label=PER_LABEL)
    labels = sorted(set(result.table["label"]))
    # A label with too few posts is not drawn.
    assert len(labels) == 4 and "g" not in labels
    assert counts(result) == {
        (split, label): number for split, number in PER_LABEL.items() for label in labels
    }
    facts = result.facts
    assert (facts["posts_read"], facts["train"], facts["held_out"], facts["not_drawn"]) == (
        *(81, 28, 12, 41),
    )
    assert not set(texts(result, "train")) & set(texts(result, "held_out"))


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_order_of_posts():
    posts = [each for label in "abcdef" for each in many(label, 12)]

    def drawn(**changes):
        result = prepared(posts, **{"labels": 4, "posts_per_label": PER_LABEL, **changes})
        return {split: set(texts(result, split)) for split in ("train", "held_out")}

    first = drawn()
    random.Random(0).shuffle(posts)
    assert drawn() == first
    assert drawn(seed=1) != first
    # More labels are the same ones and others; and so are more training posts.
    for more in ({"labels": 6}, {"posts_per_label": {"train": 9, "held_out": 3}}):
        assert all(drawn(**more)[split] >= first[split] for split in first)


def test_posts_are_drawn_of_each_split_where_files_say_which():
    train = [*many("a", 9), *many("b", 9), *many("c", 2)]
    held_out = [post(label, f"held out {label} {number}") for label in "abc" for number in range(5)]
    result = prepared(train, held_out, labels=2, posts_per_label=PER_LABEL)
    assert counts(result) == {
        (split, label): number for split, number in PER_LABEL.items() for label in "ab"
    }
    assert all("held out" in text for text in texts(result, "held_out"))


def test_posts_of_more_than_one_label_are_removed_before_posts_are_drawn():
    posts = [*many("a", 10), *many("b", 10), post("a", "same"), post("b", "same")]
    result = prepared(posts, posts_per_label=PER_LABEL)
    assert result.facts["duplicates_removed"] == 2
    assert (result.facts["train"], result.facts["held_out"]) == (14, 6)


@pytest.mark.parametrize(
    ("numbers", "changes", "message"),
    [
        ({"a": 10, "b": 9, "c": 10}, {"posts_per_label": PER_LABEL},
         r"label 'b' has 9 posts \(after 0 .*\), fewer than 10; .* set `robustness.posts.labels` "
         r"to 2, as many labels as have 7 \+ 3"),
        ({"a": 10, "b": 9, "c": 10}, {"labels": 3, "posts_per_label": PER_LABEL},
         r"3 labels with 7 \+ 3 posts are asked for, but 2 of 3 have .* 'b' has most, 9"),
        ({"a": 5, "b": 1, "c": 5}, {"labels": 3}, r"3 labels with 1 \+ 1 posts .* 2 of 3 have"),
    ],
)  # fmt: skip
def test_too_few_posts_or_labels_are_named(numbers, changes, message):
    posts = [each for label, number in numbers.items() for each in many(label, number)]
    with pytest.raises(StudyError, match=message):
        prepared(posts, **changes)


def test_a_share_beside_a_number_is_refused():
    with pytest.raises(ValidationError, match="says how many are held out; remove the share"):
        prepared(many("a", 3), posts_per_label=PER_LABEL, held_out_share=0.2)
