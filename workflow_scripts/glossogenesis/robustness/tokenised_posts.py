"""Posts as tokens: a corpus with one post a context, written and run through a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glossogenesis.corpora.contexts import (
    CorpusHeader,
    CorpusTokenizer,
    RecordMaker,
    TensorBlock,
    padding,
    write_tokenised,
)
from glossogenesis.corpora.documents import SPLITS
from glossogenesis.corpora.posts import Posts, read_posts
from glossogenesis.corpora.token_languages import ScriptLanguages
from glossogenesis.corpora.tokenised import NO_LANGUAGE, TokenisedCorpus, post_token_ids
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import batches_by_length, pad_right
from glossogenesis.models.loading import LoadedModel, load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.storage.provenance import Provenance

POSTS_AT_ONCE = 1000

SHOWN_CHARACTERS = 40
"""Beginning of a post that a message quotes."""

FIX_CORPUS = "remake it with `snakemake --forcerun tokenise_posts`"


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
    no token's language is known by its script. `sources` has the number of posts that were cut, by
    split. StudyError where nothing of a post's text remains.
    """
    lengths = {split: _lengths(posts, split, tokens) for split in SPLITS}
    longest = max(1, *(int(of_split.max()) for of_split in lengths.values()))
    cut = {split: int((lengths[split] > tokens.max_tokens).sum()) for split in SPLITS}
    header = CorpusHeader(
        corpus="posts",
        languages=(language,),
        known_by_script=(),
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
            f"{len(label_ids)}; {FIX_CORPUS}"
        )
    for number, ids in enumerate(token_ids):
        if ids[-1] == corpus.pad_id:
            raise StudyError(
                f"{manifest}: post {number} of {split!r} ends in token {corpus.pad_id}, which is "
                "also the padding, so the token to classify from cannot be known; give the "
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


@dataclass(frozen=True, eq=False)
class OpenClassifier:
    """A fine-tuned classifier and the posts that it is looked at with, which fit each other."""

    manifest: CheckpointManifest
    model: LoadedModel
    corpus: TokenisedCorpus
    posts: Posts
    held_out: LabelledPosts

    @property
    def name(self) -> str:
        """Model and checkpoint, for messages."""
        return f"{self.manifest.model} {self.manifest.checkpoint}"

    @property
    def anatomy(self) -> Anatomy:
        """The model's blocks by names that all architectures share."""
        return self.model.anatomy


def open_classifier(
    classifier: Path, corpus: Path, posts: Path, *, dtype: str, device: str
) -> OpenClassifier:
    """Load a classifier by its manifest, and the held-out ones of tokenised posts.

    StudyError where tokenizer, labels or lengths of the posts are not the classifier's.
    """
    manifest = CheckpointManifest.read(classifier)
    tokenised, written = TokenisedCorpus.read(corpus), read_posts(posts)
    manifest.check_tokenizer(tokenised.tokenizer_digest, corpus)
    held_out = labelled_posts(tokenised, written, "held_out")
    loaded = load_model(manifest.location, dtype=dtype, device=device, head="classifier")
    opened = OpenClassifier(manifest, loaded, tokenised, written, held_out)
    check_labels(manifest, loaded.model.config, written)
    check_fit(loaded.model.config, held_out, opened.name)
    return opened


@dataclass(frozen=True)
class ClassifiedPosts:
    """What a classifier makes of posts; tensors are float32, on the CPU, in the posts' order."""

    logits: Tensor
    """`[post, label]`."""
    normed: Tensor
    """`[post, d_model]`: the final norm's output, mean over the post's tokens."""
    residual: Tensor
    """`[post, d_model]`: the last block's output before that norm, mean over the post's tokens."""


@torch.inference_mode()
def classify_posts(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    *,
    batch_size: int,
    on_batch: Callable[[int], object] | None = None,
) -> ClassifiedPosts:
    """Classify each post from its last token, and average its final states.

    Posts of similar length share a batch, padded on the right, where under causal attention no
    token sees the padding: the batch size changes the result by rounding alone.

    Args:
        anatomy: a model with a classification head.
        token_ids: posts of at least one token, without padding.
        batch_size: posts in one forward pass.
        on_batch: called with the number of posts after each pass.
    """
    posts = len(token_ids)
    logits: Tensor | None = None
    normed = torch.empty(posts, anatomy.d_model)
    residual = torch.empty(posts, anatomy.d_model)
    for batch in batches_by_length([len(ids) for ids in token_ids], batch_size):
        padded = pad_right([token_ids[index] for index in batch], anatomy.device)
        with _final_norm_input(anatomy) as captured:
            output = anatomy.base(**padded.model_inputs(anatomy), use_cache=False)
        states = output.last_hidden_state
        of_batch = anatomy.logits_of_normed(padded.at_last(states)).float().cpu()
        if logits is None:
            logits = torch.empty(posts, of_batch.shape[1])
        logits[batch] = of_batch
        normed[batch] = _mean_over_tokens(states, padded.mask)
        residual[batch] = _mean_over_tokens(captured[0], padded.mask)
        if on_batch is not None:
            on_batch(len(batch))
    assert logits is not None, "no posts"
    return ClassifiedPosts(logits, normed, residual)


def _mean_over_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Mean `[post, d_model]` of `states` `[post, position, d_model]` where `mask` is 1, float32."""
    at_tokens = mask[:, :, None].float()
    return ((states.float() * at_tokens).sum(dim=1) / at_tokens.sum(dim=1)).cpu()


@contextmanager
def _final_norm_input(anatomy: Anatomy) -> Iterator[list[Tensor]]:
    """Within the context, a forward pass puts the last block's output into the yielded list."""
    captured: list[Tensor] = []

    def keep(module: Any, inputs: Any) -> None:
        captured.append(inputs[0])

    handle = anatomy.final_norm.register_forward_pre_hook(keep)
    try:
        yield captured
    finally:
        handle.remove()
