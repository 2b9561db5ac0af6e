from dataclasses import fields

import numpy as np
import pytest
from tokenizers.normalizers import Replace
from transformers import PreTrainedTokenizerFast

from glossogenesis.corpora.contexts import CorpusHeader, CorpusTokenizer, write_tokenised
from glossogenesis.corpora.posts import read_posts
from glossogenesis.corpora.tokenised import BLOCK_TENSORS, TokenisedCorpus, post_token_ids, text_of
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.tokenised_posts import PostTokens, tokenise_posts
from support.tiny_posts import (
    PROVENANCE,
    labelled_rows,
    random_token_ids,
    write_posts,
    write_tokenised_posts,
)
from support.tiny_tokenizers import byte_level, with_ends, word_level

HEADER_FIELDS = [field.name for field in fields(CorpusHeader)]

ROWS = [
    {"split": "train", "label": "cars", "title": "車", "body": "青い車"},
    {"split": "train", "label": "pets", "body": "犬が走る公園で猫も走る"},
    {"split": "held_out", "label": "pets", "body": "猫"},
    {"split": "held_out", "label": "cars", "title": "車", "body": "a b c d e"},
]


def tokenizer_of(backend, folder):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    return CorpusTokenizer.of(tokenizer, "digest", folder)


@pytest.fixture
def bytes_of_text(tmp_path):
    """A tokenizer of nearly a token a byte that can put `<s>` and `</s>` at a text's ends."""
    return tokenizer_of(with_ends(byte_level(["x"], size=256), "<s> $A </s>"), tmp_path)


@pytest.fixture
def tokenised(tmp_path, bytes_of_text):
    """Write posts and tokenise them."""

    def of(rows=ROWS, *, tokenizer=bytes_of_text, max_tokens=100, add_special_tokens=False):
        posts = read_posts(write_posts(tmp_path, rows))
        plan = PostTokens(tokenizer, max_tokens, add_special_tokens)
        return tokenise_posts(posts, plan, "ja", tmp_path / "tokens", PROVENANCE)

    return of


def blocks_of(corpus, split):
    (block,) = corpus.blocks(split, 1000)
    return block


def test_every_post_is_a_context_of_its_number(tokenised):
    corpus = tokenised()
    assert corpus == TokenisedCorpus.read(corpus.folder / "manifest.json")
    assert (corpus.fill, corpus.languages, corpus.known_by_script) == ("documents", ("ja",), ())
    token_bytes = corpus.token_bytes()
    for split, expected in (
        ("train", ["車\n青い車", "犬が走る公園で猫も走る"]),
        ("held_out", ["猫", "車\na b c d e"]),
    ):
        facts = corpus.facts(split)
        assert (facts.contexts, facts.documents) == (2, 2)
        assert [text_of(ids, token_bytes) for ids in post_token_ids(corpus, split)] == expected
        block = blocks_of(corpus, split)
        assert (block.languages[block.documents >= 0] == 0).all()
        assert (block.token_languages == 255).all()
        assert facts.tokens == {"ja": int(block.kept.sum())}


def test_contexts_are_as_long_as_the_longest_post_and_padded_on_the_right(tokenised):
    corpus = tokenised()
    assert corpus.context == len("犬が走る公園で猫も走る".encode())
    block = blocks_of(corpus, "held_out")
    assert block.documents[0].tolist() == [0] * 3 + [-1] * 30
    assert block.kept[0].tolist() == [True] * 3 + [False] * 30
    assert block.positions[0].tolist() == [0, 1, 2] + [0] * 30
    assert (block.token_ids[0, 3:] == corpus.pad_id).all()


def test_long_posts_are_cut_at_the_end_and_counted(tokenised):
    corpus = tokenised(max_tokens=9)
    assert corpus.context == 9
    assert corpus.sources == {
        "ja": {"files": ["posts.parquet"], "cut": {"train": 2, "held_out": 1}}
    }
    token_bytes = corpus.token_bytes()
    kept = [text_of(ids, token_bytes) for ids in post_token_ids(corpus, "train")]
    assert kept == ["車\n青\ufffd", "犬が走"]


def test_a_post_of_exactly_the_longest_length_is_not_cut(tokenised):
    corpus = tokenised(max_tokens=33)
    assert corpus.sources["ja"]["cut"] == {"train": 0, "held_out": 0}


def test_special_tokens_are_there_after_cutting_and_are_not_kept(tokenised, bytes_of_text):
    first, last = (bytes_of_text.backend.token_to_id(name) for name in ("<s>", "</s>"))
    corpus = tokenised(max_tokens=5, add_special_tokens=True)
    for split in ("train", "held_out"):
        for ids in post_token_ids(corpus, split):
            assert (ids[0], ids[-1], len(ids)) == (first, last, 5)
    assert blocks_of(corpus, "train").kept.tolist() == [[False, True, True, True, False]] * 2


@pytest.mark.parametrize("add_special_tokens", [False, True])
def test_a_post_without_tokens_is_named(tokenised, tmp_path, add_special_tokens):
    # The token of unknown words is text, so only a tokenizer without one loses characters.
    backend = with_ends(byte_level(["x"], size=256), "<s> $A")
    backend.normalizer = Replace("猫", "")
    tokenizer = tokenizer_of(backend, tmp_path)
    with pytest.raises(StudyError, match="held_out post 0 \\('猫'\\) gives no token"):
        tokenised(tokenizer=tokenizer, add_special_tokens=add_special_tokens)
    assert not (tmp_path / "tokens" / "manifest.json").exists()


def test_posts_that_are_all_empty_are_named_too(tokenised, tmp_path):
    backend = byte_level(["x"], size=256)
    backend.normalizer = Replace("x", "")
    rows = [{**row, "title": "", "body": "x" * (2 + n)} for n, row in enumerate(ROWS)]
    with pytest.raises(StudyError, match="train post 0"):
        tokenised(rows, tokenizer=tokenizer_of(backend, tmp_path))


def test_room_for_special_tokens_alone_is_refused(tokenised):
    with pytest.raises(StudyError, match=r"no token but special ones within 2; .* `max_tokens`"):
        tokenised(max_tokens=2, add_special_tokens=True)


def test_unknown_words_are_text(tokenised, tmp_path):
    corpus = tokenised(tokenizer=tokenizer_of(word_level(["犬"]), tmp_path))
    assert [len(ids) for ids in post_token_ids(corpus, "held_out")] == [1, 11]


def test_more_posts_than_are_tokenised_at_once(tokenised, monkeypatch):
    rows = labelled_rows(train=9, held_out=4)
    whole = tokenised(rows)
    expected = {split: post_token_ids(whole, split) for split in ("train", "held_out")}
    monkeypatch.setattr("glossogenesis.robustness.tokenised_posts.POSTS_AT_ONCE", 4)
    monkeypatch.setattr("glossogenesis.corpora.tokenised.POSTS_AT_ONCE", 5)
    corpus = tokenised(rows)
    assert {split: post_token_ids(corpus, split) for split in expected} == expected
    assert corpus.splits == whole.splits


def test_token_ids_of_the_builder_come_back(tmp_path):
    token_ids = {"train": random_token_ids(12), "held_out": random_token_ids(7, seed=1)}
    corpus = write_tokenised_posts(tmp_path, token_ids)
    assert {split: post_token_ids(corpus, split) for split in token_ids} == token_ids


@pytest.mark.parametrize(
    "documents",
    [
        [[1, 1, -1], [0, 0, 0]],  # not in order
        [[0, 0, 1], [1, 1, 1]],  # two in a context
        [[0, -1, 0], [1, 1, 1]],  # padding within
        [[-1, 0, 0], [1, 1, 1]],  # padding on the left
        [[0, 0, 0], [-1, -1, -1]],  # none
    ],
)
def test_contexts_that_are_no_posts_are_refused(tmp_path, documents):
    corpus = write_tokenised_posts(tmp_path, {"train": [[3, 4], [5, 6, 7]], "held_out": [[3]]})
    block = blocks_of(corpus, "train")
    tensors = {name: getattr(block, name).numpy() for name in BLOCK_TENSORS}
    header = CorpusHeader(**{name: getattr(corpus, name) for name in HEADER_FIELDS})
    changed = {"train": [tensors | {"documents": np.array(documents)}], "held_out": []}
    corpus = write_tokenised(tmp_path, header, changed, [b"x"] * 9, PROVENANCE)
    with pytest.raises(StudyError, match="contexts of 'train' are not one post each"):
        post_token_ids(corpus, "train")
