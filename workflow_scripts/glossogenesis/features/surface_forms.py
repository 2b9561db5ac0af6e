"""The word-like piece of text that a token belongs to, whatever tokens it is cut into.

A surface form is the longest run of characters of one script around a token's first letter or
digit: カメラ for each of the tokens that it is made of. Latin letters and digits are one script, as
in `iPhone15`; a prolonged sound mark and a combining mark belong to the character before them. A
token without letters and digits has its first character other than a space as its surface form.
Forms are normalised as words are compared, so that ｶﾒﾗ is カメラ and `Camera` is `camera`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from glossogenesis.corpora.words import comparable

_BROKEN = "surrogateescape"
"""Bytes of no character, such as those of one that the end of a post cuts, stand for themselves."""

_SCRIPT_OF_WORD = {"DIGIT": "LATIN", "IDEOGRAPHIC": "CJK"}
"""First word of a character's Unicode name, where it is not the name of its script."""

_PROLONGED = "ー"

_MARK = "mark"
"""Stands for the script of characters that have the script of the character before them."""

_NONE = ""


@dataclass(frozen=True)
class PostText:
    """The text of one post, and which of its characters each token covers."""

    text: str
    first: NDArray[np.int64]
    """Index of the first character of each token [token]; a character that several tokens make up
    together belongs to all of them."""
    end: NDArray[np.int64]
    """Index of the character behind its last [token]."""
    scripts: tuple[str, ...]
    """Script of each character; empty where it is no letter and no digit."""

    @classmethod
    def of(cls, pieces: Sequence[bytes]) -> PostText:
        """Put a post together from the bytes of its tokens."""
        text = b"".join(pieces).decode("utf-8", errors=_BROKEN)
        widths = [len(character.encode("utf-8", errors=_BROKEN)) for character in text]
        # Where each byte's character is; one more for tokens of no bytes at the end.
        character_of_byte = np.append(np.repeat(np.arange(len(text)), widths), len(text))
        lengths = np.array([len(piece) for piece in pieces], np.int64)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        first = character_of_byte[starts]
        last = np.where(ends > starts, character_of_byte[np.maximum(ends - 1, 0)], first - 1)
        return cls(text, first, last + 1, scripts_of(text))

    def surface(self, token: int) -> str:
        """Return the surface form of a token, given by its index; empty where it has no bytes."""
        covered = range(int(self.first[token]), int(self.end[token]))
        lettered = next((index for index in covered if self.scripts[index]), None)
        if lettered is not None:
            return normalised(self._run(lettered))
        visible = (index for index in covered if not self.text[index].isspace())
        index = next(visible, covered.start if covered else None)
        return "" if index is None else normalised(self.text[index])

    def _run(self, index: int) -> str:
        """The longest run of the script of a character around it."""
        script, start, end = self.scripts[index], index, index + 1
        while start and self.scripts[start - 1] == script:
            start -= 1
        while end < len(self.text) and self.scripts[end] == script:
            end += 1
        return self.text[start:end]


def normalised(text: str) -> str:
    """Return text as words are compared, with its spaces; bytes of no character become �."""
    readable = text.encode("utf-8", errors=_BROKEN).decode("utf-8", errors="replace")
    return comparable(readable) or readable


def scripts_of(text: str) -> tuple[str, ...]:
    """Return the script of each character, such as `CJK`, `KATAKANA` or `LATIN`; empty for none."""
    scripts: list[str] = []
    for character in text:
        before = scripts[-1] if scripts else _NONE
        script = _script(character)
        lengthens = script == "KATAKANA" and _is_prolonged(character)
        if script == _MARK or (lengthens and before == "HIRAGANA"):
            script = before
        scripts.append(script)
    return tuple(scripts)


@cache
def _script(character: str) -> str:
    # Compatibility forms, such as ｶ and Ａ, are named after their width.
    plain = unicodedata.normalize("NFKC", character)[:1]
    category = unicodedata.category(plain) if plain else "Cn"
    if category[0] == "M":
        return _MARK
    # The ideographic zero counts as a letter number (Nl).
    if category[0] != "L" and category not in ("Nd", "Nl"):
        return _NONE
    word = unicodedata.name(plain, _NONE).replace("-", " ").partition(" ")[0]
    return _SCRIPT_OF_WORD.get(word, word)


def _is_prolonged(character: str) -> bool:
    return unicodedata.normalize("NFKC", character) == _PROLONGED
