"""Which activating tokens have letters: only those say of which language a feature is.

A token may be a part of a character's bytes. It has letters where a character that it is a part of
is one, so that what stands beside it decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glossogenesis.corpora.token_languages import has_letter
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.examples import Examples
from glossogenesis.features.firing import SPLIT

_CONTEXTS_AT_ONCE = 256
_TOKENS_AROUND = 3
"""Tokens on either side that can hold the rest of a character, which has at most 4 bytes."""
_CONTINUATION = range(0x80, 0xC0)
"""Bytes of UTF-8 that begin no character."""


def lettered(examples: Examples, corpus: TokenisedCorpus) -> NDArray[np.bool_]:
    """Whether each example's activating token has a letter of any script, [example]."""
    pieces = corpus.token_bytes()
    token_ids = examples.token_column("token_id")
    has_letters = np.zeros(len(pieces), bool)
    is_cut = np.zeros(len(pieces), bool)
    for token in np.unique(token_ids).tolist():
        has_letters[token] = has_letter(pieces[token].decode("utf-8", errors="ignore"))
        is_cut[token] = not has_letters[token] and not _is_whole(pieces[token])
    found: NDArray[np.bool_] = has_letters[token_ids]
    unsure = np.flatnonzero(is_cut[token_ids])
    if len(unsure):
        places = (examples.token_column(name)[unsure] for name in ("context", "column"))
        found[unsure] = _by_surroundings(corpus, pieces, *places)
    return found


def _by_surroundings(
    corpus: TokenisedCorpus,
    pieces: Sequence[bytes],
    contexts: NDArray[np.int32],
    columns: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Whether characters that tokens of the held-out split are parts of are letters, [token]."""
    found = np.zeros(len(contexts), bool)
    order = np.argsort(contexts, kind="stable")
    ordered = contexts[order]
    for block in corpus.blocks(SPLIT, _CONTEXTS_AT_ONCE):
        ids = block.token_ids.numpy()
        ends = np.searchsorted(ordered, (block.first, block.first + len(ids)))
        for example in order[slice(*ends)].tolist():
            row, column = ids[contexts[example] - block.first], int(columns[example])
            first = max(0, column - _TOKENS_AROUND)
            around = [pieces[token] for token in row[first : column + _TOKENS_AROUND + 1].tolist()]
            found[example] = has_letter(_whole_characters(around, column - first))
    return found


def _whole_characters(around: Sequence[bytes], place: int) -> str:
    """The characters that the token at `place` is, or is a part of."""
    text = b"".join(around)
    start = sum(map(len, around[:place]))
    end = start + len(around[place])
    while start and text[start] in _CONTINUATION:
        start -= 1
    while end < len(text) and text[end] in _CONTINUATION:
        end += 1
    return text[start:end].decode("utf-8", errors="ignore")


def _is_whole(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
