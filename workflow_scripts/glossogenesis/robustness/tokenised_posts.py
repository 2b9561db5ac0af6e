"""Tokenise posts: a corpus with one post a context, every post in its order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glossogenesis.corpora.corpus_tokenizer import CorpusTokenizer, RecordMaker, padding
from glossogenesis.corpora.posts import Posts
from glossogenesis.corpora.splitting import SPLITS
from glossogenesis.corpora.token_languages import ScriptLanguages
from glossogenesis.corpora.tokenised import NO_LANGUAGE, TokenisedCorpus
from glossogenesis.corpora.tokenised_writer import CorpusHeader, TensorBlock, write_tokenised
from glossogenesis.errors import StudyError
from glossogenesis.storage.provenance import Provenance

POSTS_AT_ONCE = 1000

SHOWN_CHARACTERS = 40
"""Beginning of a post that a message quotes."""


@dataclass(frozen=True)
class PostTokens:
    """How posts become tokens."""

    tokenizer: CorpusTokenizer
    max_tokens: int
    """Tokens after which a post is cut; special tokens stay, as the tokenizer places them."""
    add_special_tokens: bool


def tokenise_posts(
    posts: Posts, tokens: PostTokens, language: str, folder: Path, provenance: Provenance
) -> TokenisedCorpus:
    """Write the tokenised posts into a folder and return them.

    A context is as long as the longest post, in tokens, that remains after cutting. A post's
    document number is its number in its split. `kept` is False at padding and special tokens, and
    no token's language is told by its script. `sources` has the number of posts that were cut, by
    split. StudyError where nothing of a post's text remains.
    """
    lengths = {split: _lengths(posts, split, tokens) for split in SPLITS}
    longest = max(1, *(int(of_split.max()) for of_split in lengths.values()))
    cut = {split: int((lengths[split] > tokens.max_tokens).sum()) for split in SPLITS}
    header = CorpusHeader(
        corpus="posts",
        languages=(language,),
        told_by_script=(),
        context=min(longest, tokens.max_tokens),
        fill="documents",
        drop_first=False,
        tokenizer_digest=tokens.tokenizer.digest,
        pad_id=tokens.tokenizer.pad_id,
        end_id=tokens.tokenizer.end_id,
        sources={language: {"files": [posts.path.name], "cut": cut}},
    )
    blocks: dict[str, Iterator[TensorBlock]] = {
        split: _blocks(posts, split, tokens, header.context) for split in SPLITS
    }
    return write_tokenised(folder, header, blocks, tokens.tokenizer.vocabulary, provenance)


def _records(
    posts: Posts, split: str, tokens: PostTokens, longest: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the first number, the records `[token]` and the `[post]` lengths of some posts each."""
    maker = RecordMaker(
        tokens.tokenizer,
        ScriptLanguages.of({}),
        tokens.add_special_tokens,
        end_documents=False,
        longest=longest,
    )
    texts = posts.of(split)["text"].to_list()
    for first in range(0, len(texts), POSTS_AT_ONCE):
        yield first, *maker.records(texts[first : first + POSTS_AT_ONCE])


def _lengths(posts: Posts, split: str, tokens: PostTokens) -> np.ndarray:
    """Return tokens of each post, counted no further than one that is too long."""
    return np.concatenate(
        [lengths for _, _, lengths in _records(posts, split, tokens, tokens.max_tokens + 1)]
    )


def _blocks(posts: Posts, split: str, tokens: PostTokens, context: int) -> Iterator[TensorBlock]:
    for first, records, lengths in _records(posts, split, tokens, tokens.max_tokens):
        contexts = padding((len(lengths), context), tokens.tokenizer.pad_id)
        is_token = np.arange(context) < lengths[:, None]
        contexts[is_token] = records
        empty = np.flatnonzero(~contexts["kept"].any(axis=1))
        if len(empty):
            number = first + int(empty[0])
            text = posts.of(split)["text"][number][:SHOWN_CHARACTERS]
            raise StudyError(
                f"{posts.path}: {split} post {number} ({text!r}) gives no token but special ones "
                f"within {tokens.max_tokens}; remove the post, raise `max_tokens`, or choose a "
                "model whose tokenizer has its characters"
            )
        numbers = first + np.arange(len(lengths))[:, None]
        yield {
            **{name: contexts[name] for name in ("token_ids", "positions", "token_languages")},
            "kept": contexts["kept"],
            "documents": np.where(is_token, numbers, contexts["documents"]),
            "languages": np.where(is_token, 0, NO_LANGUAGE),
        }
