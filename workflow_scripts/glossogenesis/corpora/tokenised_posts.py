"""Token ids of posts from a tokenised corpus with one post a context.

Reading them takes torch, but no tokenizer and no transformers.
"""

from __future__ import annotations

import torch

from glossogenesis.corpora.tokenised import ContextBlock, TokenisedCorpus
from glossogenesis.errors import StudyError

POSTS_AT_ONCE = 4096


def post_token_ids(corpus: TokenisedCorpus, split: str) -> list[list[int]]:
    """Return the token ids of each post of a split, without padding, by the post's number.

    StudyError where the corpus is damaged, or its contexts are not posts.
    """
    token_ids: list[list[int]] = []
    for block in corpus.blocks(split, POSTS_AT_ONCE):
        _check_posts(corpus, split, block)
        lengths = (block.documents >= 0).sum(dim=1)
        rows = zip(block.token_ids, lengths.tolist(), strict=True)
        token_ids += [ids[:length].tolist() for ids, length in rows]
    return token_ids


def _check_posts(corpus: TokenisedCorpus, split: str, block: ContextBlock) -> None:
    """StudyError where a context is not the post of its number, padded on the right."""
    numbers = block.first + torch.arange(len(block.documents))
    is_token = block.documents >= 0
    of_number = (block.documents == numbers[:, None]) | ~is_token
    in_front = is_token[:, 1:] <= is_token[:, :-1]
    if not (is_token[:, 0].all() and of_number.all() and in_front.all()):
        raise StudyError(
            f"{corpus.folder / 'manifest.json'}: the contexts of {split!r} are not one post each; "
            "remake the corpus with `snakemake --forcerun tokenise_posts`"
        )
