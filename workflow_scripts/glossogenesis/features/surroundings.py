"""The text around activating tokens, from the corpus that activations were taken from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.tokenised import ContextBlock, TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.features.firing import SPLIT
from glossogenesis.features.schemas import EXAMPLES_SCHEMA

TOKENS_AROUND = 16
"""Tokens of text on either side of an activating token, within its document."""

EXAMPLES_AT_ONCE = 16_384

_CONTEXTS_AT_ONCE = 256


def examples_in_parts(
    examples: Examples,
    languages: NDArray[np.uint8],
    corpus: TokenisedCorpus,
    examples_at_once: int = EXAMPLES_AT_ONCE,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of `examples.parquet`, a bounded number at a time; at least one part.

    The corpus is read once a part, so that only one part's text is in memory.

    Args:
        examples: what to describe.
        languages: language of each example's activating token, 255 for none [example].
        corpus: the corpus that the activations were taken from.
        examples_at_once: rows of a part at most, where a feature has no more.

    Raises:
        StudyError: the corpus has other tokens where the examples are.
    """
    texts, pieces = corpus.vocabulary(), corpus.token_bytes()
    names = pl.Series([*corpus.languages, None], dtype=pl.String)
    bounds = np.append(0, np.cumsum(examples.counts))
    # Features are taken together while all that they might have fits.
    step = max(1, examples_at_once // examples.tokens.shape[1])
    for first in range(0, len(examples.counts), step):
        part = examples.of_features(first, first + step)
        numbers, tokens, activations = part.flat()
        told = languages[bounds[first] : bounds[first] + len(tokens)]
        before, after = text_around(tokens, corpus, pieces)
        columns = {
            "feature": part.features + first,
            "example": numbers,
            **{name: tokens[name] for name in ("context", "column", "document", "token_id")},
            "token": [texts[token] for token in tokens["token_id"].tolist()],
            "token_language": names[told.clip(max=len(corpus.languages))],
            "activation": activations,
            "before": before,
            "after": after,
        }
        yield pl.DataFrame(columns).cast(EXAMPLES_SCHEMA)


def text_around(
    tokens: NDArray[np.void], corpus: TokenisedCorpus, pieces: Sequence[bytes]
) -> tuple[list[str], list[str]]:
    """Return the text before and after each of some tokens of the held-out split.

    It is of their own document, `TOKENS_AROUND` tokens long at most; a character that is cut
    becomes �.

    Args:
        tokens: `TOKEN_IDS` [token], in any order.
        corpus: where they are.
        pieces: bytes of each token, by token id.
    """
    before, after = [""] * len(tokens), [""] * len(tokens)
    of_token = np.array(pieces, dtype=object)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    order = np.argsort(tokens["context"], kind="stable")
    contexts = tokens["context"][order]
    for block in corpus.blocks(SPLIT, _CONTEXTS_AT_ONCE):
        ends = np.searchsorted(contexts, (block.first, block.first + len(block.token_ids)))
        here = order[slice(*ends)]
        if not len(here):
            continue
        rows, columns = tokens["context"][here] - block.first, tokens["column"][here]
        ids = block.token_ids.numpy()
        _check_same(ids[rows, columns], tokens["token_id"][here], corpus)
        first, last = _within_documents(block, rows, columns)
        bounds = np.cumsum(np.pad(lengths[ids], ((0, 0), (1, 0))), axis=1)
        cuts = (bounds[rows, place] for place in (first, columns, columns + 1, last))
        places = zip(here, rows, *(cut.tolist() for cut in cuts), strict=True)
        joined = {row: b"".join(of_token[ids[row]].tolist()) for row in np.unique(rows).tolist()}
        for index, row, start, token, token_end, end in places:
            before[index] = joined[row][start:token].decode("utf-8", errors="replace")
            after[index] = joined[row][token_end:end].decode("utf-8", errors="replace")
    return before, after


def _within_documents(
    block: ContextBlock, rows: NDArray[np.int32], columns: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First column of the text before, and column behind the text after, [token]."""
    documents = block.documents.numpy()
    around = columns[:, None] + np.arange(-TOKENS_AROUND, TOKENS_AROUND + 1, dtype=np.int32)
    inside = (around >= 0) & (around < documents.shape[1])
    found = documents[rows[:, None], around.clip(0, documents.shape[1] - 1)]
    # Documents of a sequence follow each other, so those of the same number stand together.
    same = inside & (found == documents[rows, columns][:, None])
    left = same[:, :TOKENS_AROUND].sum(axis=1)
    right = same[:, TOKENS_AROUND + 1 :].sum(axis=1)
    return columns - left, columns + 1 + right


def _check_same(
    found: NDArray[np.int32], expected: NDArray[np.int32], corpus: TokenisedCorpus
) -> None:
    if (found != expected).any():
        raise StudyError(
            f"{corpus.folder}: holds other tokens than the activations were taken from; remake the "
            "activations with `snakemake --forcerun extract_activations`"
        )
