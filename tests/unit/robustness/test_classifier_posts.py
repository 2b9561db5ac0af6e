"""Posts for a classifier: labels beside tokens, and what does not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from glossogenesis.corpora.posts import Posts, read_posts
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.tokenised_posts import LabelledPosts, check_fit, labelled_posts
from support.tiny_models import tiny_config
from support.tiny_posts import labelled_rows, write_posts, write_tokenised_posts

TRAIN = [[3, 4], [5], [6, 0, 7], [8]]


@pytest.fixture
def posts(tmp_path: Path) -> Posts:
    return read_posts(write_posts(tmp_path, labelled_rows(("a", "b"), train=2, held_out=1)))


def corpus_of(folder: Path, train: Sequence[Sequence[int]]) -> TokenisedCorpus:
    return write_tokenised_posts(folder / "corpus", {"train": train, "held_out": [[3], [4]]})


def test_labels_stand_beside_tokens(posts: Posts, tmp_path: Path) -> None:
    """A padding token inside a post is a token of it."""
    train = labelled_posts(corpus_of(tmp_path, TRAIN), posts, "train")
    assert train == LabelledPosts(TRAIN, [0, 1, 0, 1])


def test_a_post_that_ends_in_the_padding_token_is_refused(posts: Posts, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [[3, 4], [5], [6, 0], [8]])
    with pytest.raises(StudyError, match=r"post 2 of 'train' ends in token 0, which is also the"):
        labelled_posts(corpus, posts, "train")


def test_unequal_numbers_of_posts_are_refused(posts: Posts, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, TRAIN[:3])
    with pytest.raises(StudyError, match=r"has 3 posts in 'train', but .*posts.parquet has 4"):
        labelled_posts(corpus, posts, "train")


def test_posts_that_the_model_cannot_read_are_refused() -> None:
    posts = LabelledPosts([[3, 4, 5], [60]], [0, 1])
    check_fit(tiny_config("llama", max_position_embeddings=3), posts, "tiny step1")
    check_fit(tiny_config("bloom"), posts, "tiny step1")  # has no longest post
    with pytest.raises(StudyError, match=r"takes 2 tokens at most, but a post has 3; lower `rob"):
        check_fit(tiny_config("gpt2", n_positions=2), posts, "tiny step1")
    with pytest.raises(StudyError, match=r"token id 60, but the model embeds only 60 tokens"):
        check_fit(tiny_config("llama", vocab_size=60), posts, "tiny step1")
