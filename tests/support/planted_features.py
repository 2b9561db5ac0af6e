"""A corpus, an activation cache and an autoencoder whose features are known beforehand.

The autoencoder's encoder is the identity, so that a token's activation is its latents before ReLU
and TopK: a test writes down what fires.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glossogenesis.corpora.contexts import CorpusHeader, write_tokenised
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.storage.activations.cache import (
    ID_DTYPES,
    ActivationCache,
    ActivationRows,
    CacheDescription,
)
from glossogenesis.storage.activations.writer import CacheWriter
from glossogenesis.storage.provenance import Provenance

ORIGIN = Provenance("test", "demo", {}, {}, "0")
LANGUAGES = ("en", "ja")
SCRIPTS = {"en": "Latin", "ja": "Japanese"}
NO_LANGUAGE = 255

PAD = 0
VOCABULARY: list[tuple[str, int]] = [
    ("", NO_LANGUAGE),
    (" cat", 0),
    (" dog", 0),
    (" red", 0),
    (" the", 0),
    ("猫", 1),
    ("犬", 1),
    ("赤", 1),
    ("の", 1),
    ("7", NO_LANGUAGE),
    (",", NO_LANGUAGE),
    ("、", NO_LANGUAGE),
]
"""Text of each token, and its language by script."""


def write_corpus(
    folder: Path,
    contexts: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]] | None = None,
    *,
    languages: tuple[str, ...] = LANGUAGES,
    known_by_script: tuple[str, ...] | None = None,
    document_languages: Sequence[int] | None = None,
    vocabulary: Sequence[bytes] | None = None,
) -> TokenisedCorpus:
    """Write a corpus whose held-out split has these token ids, padded on the right.

    By default every context is a document of its own; even ones are in the first language, odd ones
    in the second.
    """
    shape = (len(contexts), max(map(len, contexts)))
    arrays: dict[str, Any] = {
        "token_ids": np.full(shape, PAD, np.int32),
        "documents": np.full(shape, -1, np.int32),
        "positions": np.zeros(shape, np.int32),
        "languages": np.full(shape, 255, np.uint8),
        "token_languages": np.full(shape, 255, np.uint8),
        "kept": np.zeros(shape, bool),
    }
    by_script = [language for _, language in VOCABULARY]
    for number, ids in enumerate(contexts):
        of_context = documents[number] if documents else [number] * len(ids)
        here = (number, slice(len(ids)))
        arrays["token_ids"][here] = ids
        arrays["documents"][here] = of_context
        arrays["positions"][here] = range(len(ids))
        arrays["languages"][here] = [
            document_languages[document] if document_languages else document % 2
            for document in of_context
        ]
        if vocabulary is None:
            arrays["token_languages"][here] = [by_script[token] for token in ids]
        arrays["kept"][here] = True
    header = CorpusHeader(
        corpus="text",
        languages=languages,
        known_by_script=languages if known_by_script is None else known_by_script,
        context=shape[1],
        fill="padded",
        drop_first=False,
        tokenizer_digest="abc",
        pad_id=PAD,
        end_id=None,
        sources={},
    )
    pieces = vocabulary or [text.encode() for text, _ in VOCABULARY]
    blocks = {"train": [], "held_out": [arrays]}
    return write_tokenised(folder, header, blocks, pieces, ORIGIN, bytes_of_a_shard=50_000)


def write_cache(
    folder: Path, corpus: TokenisedCorpus, activations: Tensor, *, contexts_a_shard: int = 3
) -> ActivationCache:
    """Write a layer's cache whose held-out rows, in the order of the corpus, are `activations`."""
    description = CacheDescription(
        model="m",
        checkpoint="c",
        corpus=corpus.corpus,
        layer=0,
        hook="model.layers.0",
        d_model=activations.shape[1],
        dtype="float32",
        languages=corpus.languages,
        context=corpus.context,
        window=1024,
        source="somewhere",
        revision=None,
        tokenizer_digest=corpus.tokenizer_digest,
    )
    first = 0
    with CacheWriter(folder, {0: description}, {0: ORIGIN}) as writer:
        for number, block in enumerate(corpus.blocks("held_out", contexts_a_shard)):
            contexts, columns = block.kept.nonzero(as_tuple=True)
            ids = {"contexts": contexts + block.first, "columns": columns} | {
                name: getattr(block, name)[contexts, columns]
                for name in ID_DTYPES
                if name not in ("contexts", "columns")
            }
            ids = {name: tensor.to(ID_DTYPES[name]) for name, tensor in ids.items()}
            rows = activations[first : first + len(contexts)]
            writer.add("held_out", number, {0: ActivationRows.of(rows, ids)}, 0)
            first += len(contexts)
        writer.finish()
    assert first == len(activations)
    return ActivationCache.open(folder / "layer_0" / "manifest.json")


def identity_sae(
    n_latents: int, *, k: int | None = 2, architecture: str = "topk", normalise: str = "none"
) -> SparseAutoencoder:
    """An autoencoder whose pre-activations are its input."""
    sae = SparseAutoencoder(n_latents, n_latents, architecture, k=k, normalise=normalise)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(n_latents))
        sae.w_dec.copy_(torch.eye(n_latents))
    return sae


def random_contexts(number: int, length: int, seed: int = 0) -> list[list[int]]:
    """Contexts of random tokens and of random lengths up to `length`."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, length + 1, number)
    return [generator.integers(1, len(VOCABULARY), size).tolist() for size in lengths]
