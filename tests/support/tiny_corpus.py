"""A tokenised corpus of random tokens, packed or padded, written without a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from glossogenesis.corpora.contexts import CorpusHeader, TensorBlock, write_tokenised
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.storage.provenance import Provenance
from support.tiny_models import VOCABULARY

CONTEXT = 12
LANGUAGES = ("en", "ru")
PROVENANCE = Provenance(kind="corpus", study="test", settings={}, inputs={}, code="0")


def tiny_corpus(
    folder: Path,
    *,
    fill: str = "padded",
    train: int = 23,
    held_out: int = 7,
    context: int = CONTEXT,
    tokenizer_digest: str = "0",
    vocabulary: int = VOCABULARY,
) -> TokenisedCorpus:
    """Contexts of random tokens, a document each, of random lengths where `fill` is `padded`.

    The first token of each context is not kept. Languages alternate from context to context.
    """
    generator = np.random.default_rng(0)
    header = CorpusHeader(
        corpus="tiny",
        languages=LANGUAGES,
        known_by_script=LANGUAGES,
        context=context,
        fill=fill,
        drop_first=True,
        tokenizer_digest=tokenizer_digest,
        pad_id=0,
        end_id=None,
        sources={},
    )

    def blocks(contexts: int) -> Iterator[TensorBlock]:
        yield _block(generator, contexts, context, vocabulary, padded=fill == "padded")

    return write_tokenised(
        folder,
        header,
        {"train": blocks(train), "held_out": blocks(held_out)},
        [f"<{token}>".encode() for token in range(vocabulary)],
        PROVENANCE,
        bytes_of_a_shard=150 * context,
    )


def _block(
    generator: np.random.Generator, contexts: int, context: int, vocabulary: int, *, padded: bool
) -> TensorBlock:
    shape = (contexts, context)
    columns = np.broadcast_to(np.arange(context), shape)
    lengths = generator.integers(2, context + 1, (contexts, 1)) if padded else context
    present = columns < lengths
    numbers = np.broadcast_to(np.arange(contexts)[:, None], shape)
    languages = numbers % len(LANGUAGES)
    return {
        "token_ids": np.where(present, generator.integers(3, vocabulary, shape), 0),
        "documents": np.where(present, numbers, -1),
        "positions": np.where(present, columns, 0),
        "languages": np.where(present, languages, 255),
        "token_languages": np.where(present, languages, 255),
        "kept": present & (columns > 0),
    }
