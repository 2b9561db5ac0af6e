"""Posts and their tokens, written without a tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from glossogenesis.corpora.contexts import CorpusHeader, TensorBlock, write_tokenised
from glossogenesis.corpora.posts import posts_table
from glossogenesis.corpora.tokenised import NO_DOCUMENT, NO_LANGUAGE, TokenisedCorpus
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table
from support.tiny_models import VOCABULARY

PROVENANCE = Provenance(kind="posts", study="test", settings={}, inputs={}, code="0")


def write_posts(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write `posts.parquet` of rows with `split`, `label`, `body` and perhaps `title`, in order."""
    splits: dict[str, list[dict[str, str]]] = {"train": [], "held_out": []}
    for row in rows:
        title = row.get("title", "")
        written = {"label": row["label"], "title": title, "body": row["body"]}
        text = f"{title}\n{row['body']}" if title else row["body"]
        splits[row["split"]].append({**written, "text": text})
    path = folder / "posts.parquet"
    write_table(path, posts_table(splits), PROVENANCE)
    return path


def labelled_rows(
    labels: Sequence[str] = ("cars", "cooking", "pets"), *, train: int = 4, held_out: int = 3
) -> list[dict[str, str]]:
    """Rows for `write_posts`: so many posts of each label, the labels taking turns."""
    return [
        {"split": split, "label": label, "body": f"{label} {split} {number}"}
        for split, posts in (("train", train), ("held_out", held_out))
        for number in range(posts)
        for label in labels
    ]


def write_tokenised_posts(
    folder: Path,
    token_ids: Mapping[str, Sequence[Sequence[int]]],
    *,
    tokenizer_digest: str = "0",
    vocabulary: int = VOCABULARY,
    special_ids: Collection[int] = (),
    pad_id: int = 0,
    context: int | None = None,
) -> TokenisedCorpus:
    """Write the posts of `train` and `held_out`, each a list of token ids, one post a context."""
    longest = max(len(ids) for posts in token_ids.values() for ids in posts)
    header = CorpusHeader(
        corpus="posts",
        languages=("ja",),
        known_by_script=(),
        context=context or longest,
        fill="documents",
        drop_first=False,
        tokenizer_digest=tokenizer_digest,
        pad_id=pad_id,
        end_id=None,
        sources={},
    )
    blocks = {
        split: [_block(posts, header.context, pad_id, special_ids)]
        for split, posts in token_ids.items()
    }
    tokens = [f"<{token}>".encode() for token in range(vocabulary)]
    return write_tokenised(folder, header, blocks, tokens, PROVENANCE)


def random_token_ids(
    posts: int, *, longest: int = 9, vocabulary: int = VOCABULARY, seed: int = 0
) -> list[list[int]]:
    """Posts of 2 to `longest` random tokens; ids 0 to 2 do not occur."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, longest + 1, posts)
    return [generator.integers(3, vocabulary, length).tolist() for length in lengths]


def _block(
    posts: Sequence[Sequence[int]], context: int, pad_id: int, special_ids: Collection[int]
) -> TensorBlock:
    shape = (len(posts), context)
    columns = np.broadcast_to(np.arange(context), shape)
    present = columns < np.array([len(ids) for ids in posts])[:, None]
    token_ids = np.full(shape, pad_id)
    token_ids[present] = np.concatenate(posts)
    return {
        "token_ids": token_ids,
        "documents": np.where(present, np.arange(len(posts))[:, None], NO_DOCUMENT),
        "positions": np.where(present, columns, 0),
        "languages": np.where(present, 0, NO_LANGUAGE),
        "token_languages": np.full(shape, NO_LANGUAGE),
        "kept": present & ~np.isin(token_ids, list(special_ids)),
    }
