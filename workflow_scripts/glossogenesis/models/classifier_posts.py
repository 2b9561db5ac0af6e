"""The posts that a classifier is trained on or run on, as token ids with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glossogenesis.corpora.posts import Posts
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.corpora.tokenised_posts import post_token_ids
from glossogenesis.errors import StudyError
from glossogenesis.models.manifest import CheckpointManifest

MEND_CORPUS = "remake it with `snakemake --forcerun tokenise_posts`"


@dataclass(frozen=True)
class LabelledPosts:
    """The posts of one split, in order of number."""

    token_ids: Sequence[Sequence[int]]
    """Without padding."""
    label_ids: Sequence[int]
    """Index of each post's label in the sorted labels of the training posts."""

    def __len__(self) -> int:
        return len(self.token_ids)


def labelled_posts(corpus: TokenisedCorpus, posts: Posts, split: str) -> LabelledPosts:
    """Read the token ids and labels of `train` or `held_out`.

    StudyError where corpus and posts differ in number, or a post ends in the token that pads:
    transformers classifies from the last token that is no padding, which would be another one.
    """
    token_ids = post_token_ids(corpus, split)
    label_ids = posts.label_ids(split).tolist()
    manifest = corpus.folder / "manifest.json"
    if len(token_ids) != len(label_ids):
        raise StudyError(
            f"{manifest}: has {len(token_ids)} posts in {split!r}, but {posts.path} has "
            f"{len(label_ids)}; {MEND_CORPUS}"
        )
    for number, ids in enumerate(token_ids):
        if ids[-1] == corpus.pad_id:
            raise StudyError(
                f"{manifest}: post {number} of {split!r} ends in token {corpus.pad_id}, which is "
                "also the padding, so the token to classify from cannot be told; give the "
                "tokenizer a padding token of its own, or let it add no special tokens to posts"
            )
    return LabelledPosts(token_ids, label_ids)


def check_fit(config: Any, posts: LabelledPosts, described_as: str) -> None:
    """StudyError where posts are too long for a model, or have tokens that it does not embed.

    `config` is the model's, of transformers, and `described_as` its name in messages.
    """
    longest = max(len(ids) for ids in posts.token_ids)
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise StudyError(
            f"{described_as}: takes {limit} tokens at most, but a post has {longest}; lower "
            "`robustness.classifier.max_tokens`"
        )
    largest = max(max(ids) for ids in posts.token_ids)
    if largest >= config.vocab_size:
        raise StudyError(
            f"{described_as}: posts have token id {largest}, but the model embeds only "
            f"{config.vocab_size} tokens; its tokenizer belongs to another model"
        )


def check_labels(manifest: CheckpointManifest, config: Any, posts: Posts) -> None:
    """StudyError where a classifier was trained on other labels than the posts'.

    `config` is the classifier's, of transformers.
    """
    names = tuple(config.id2label[number] for number in range(config.num_labels))
    if names != posts.labels:
        raise StudyError(
            f"{manifest.folder}: knows other labels than {posts.path}; train it again with "
            "`snakemake --forcerun finetune_classifier`"
        )
