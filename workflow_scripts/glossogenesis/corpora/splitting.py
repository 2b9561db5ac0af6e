"""Which documents are held out: decided by each document's text, never by its position."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "held_out"]

SPLITS: tuple[Split, Split] = ("train", "held_out")

_HASHES = 2**64


def split_of(text: str, held_out_share: float) -> Split:
    """Return the split of a document.

    A document is held out where the first 8 bytes of the SHA-256 of its text, white space at both
    ends removed, are below `held_out_share` of their range. So identical documents lie in the same
    split, in every corpus of the same share, and a larger share holds out the same documents and
    more.
    """
    digest = hashlib.sha256(text.strip().encode("utf-8")).digest()
    hashed = int.from_bytes(digest[:8], "big")
    return "held_out" if hashed < held_out_share * _HASHES else "train"
