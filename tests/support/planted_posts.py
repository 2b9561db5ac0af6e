"""Posts with labels, their tokens, and a cache in which a test says which features fire where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glossogenesis.corpora.posts import Posts, posts_table, read_posts
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.tables import write_table
from support.planted_features import ORIGIN, write_cache, write_corpus


@dataclass(frozen=True)
class PlantedPosts:
    """Held-out posts whose tokens' activations are given, for an identity autoencoder."""

    cache: ActivationCache
    corpus: TokenisedCorpus
    posts: Posts


def plant_posts(
    folder: Path,
    labels: Sequence[str],
    token_ids: Sequence[Sequence[int]],
    activations: Sequence[Tensor],
    *,
    vocabulary: Sequence[bytes] | None = None,
    train_labels: Sequence[str] = (),
    posts_a_shard: int = 3,
) -> PlantedPosts:
    """Write held-out posts, each with its label, tokens and activations `[token, feature]`.

    There is one training post of each label, and of each of `train_labels`.
    """
    corpus = write_corpus(folder / "corpus", token_ids, vocabulary=vocabulary)
    cache = write_cache(
        folder / "cache", corpus, torch.cat(list(activations)), contexts_a_shard=posts_a_shard
    )
    write_posts(folder / "posts.parquet", [*sorted(set(labels)), *train_labels], labels)
    return PlantedPosts(cache, corpus, read_posts(folder / "posts.parquet"))


def write_posts(path: Path, train: Sequence[str], held_out: Sequence[str]) -> None:
    """Write posts of these labels; their texts do not matter here."""
    splits = {
        split: [{"label": label, "title": "", "body": "x", "text": "x"} for label in labels]
        for split, labels in (("train", train), ("held_out", held_out))
    }
    write_table(path, posts_table(splits), ORIGIN)
