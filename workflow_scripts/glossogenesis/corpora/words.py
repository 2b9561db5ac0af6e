"""When two words are one, and where a word ends: one rule for all that compares words.

Words are compared by Unicode NFKC with their case folded; every apostrophe is one apostrophe, every
hyphen one hyphen, and what cannot be seen does not count. So `ng’ombe` is `ng'ombe`, ﾈｺ is ネコ,
and `STRASSE` is `straße`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

APOSTROPHES = "'’‘‛ʼʻʽ`´′＇ꞌ՚׳"
HYPHENS = "-‐‑‒–−﹣－־"

_UNIFIED = str.maketrans(
    {
        **dict.fromkeys(APOSTROPHES, "'"),
        **dict.fromkeys(HYPHENS, "-"),
        # A soft hyphen, spaces without width, marks of direction, and a byte order mark.
        **dict.fromkeys("\u00ad\u200b\u2060\ufeff\u200e\u200f\u061c", None),
    }
)

_BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "［": "］", "｛": "｝",
             "【": "】", "〔": "〕", "〖": "〗", "⟨": "⟩", "〈": "〉"}  # fmt: skip
_CLOSING = frozenset(_BRACKETS.values())

SEPARATORS = re.compile(r"[,;/|，；／、､،؛｜]|\s~\s")
"""What stands between the words of a cell in published word lists."""

SYNONYMS = re.compile(r"\|")
"""What stands between the words of a cell in this project's own lexicons."""


def comparable(text: str) -> str:
    """Return a text such that two texts are one word where these are equal.

    NFKC stands on both sides of the case folding because each can undo the other's work (Unicode
    16, definition D145).
    """
    unified = text.translate(_UNIFIED)
    folded = unicodedata.normalize("NFKC", unified).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).translate(_UNIFIED).split())


def joins(character: str) -> bool:
    """Whether `character` continues a word: letter, mark, number, connector or invisible joiner."""
    category = unicodedata.category(character)
    return category[0] in "LMN" or category in ("Pc", "Cf")


def words_of_cell(cell: str, separators: re.Pattern[str] = SEPARATORS) -> tuple[str, ...]:
    """Return the words of a cell of a word list, the first one of those that are equal.

    Annotations in brackets go first, nested ones too, then the cell is cut at separators, then
    marks that are no letters (`*`, `~`, a lone `-`) are taken off its words.
    """
    words = (_without_marks(word) for word in separators.split(_without_annotations(cell)))
    return first_of_equal(word for word in words if word)


def first_of_equal(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words in their order, the first one of those that are equal."""
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(comparable(word), word)
    return tuple(first.values())


def _without_annotations(cell: str) -> str:
    """Return a cell without what its brackets hold; one that is not closed goes on to the end."""
    kept: list[str] = []
    open_brackets: list[str] = []
    for character in cell:
        if character in _BRACKETS:
            open_brackets.append(_BRACKETS[character])
        elif character in _CLOSING:
            # A bracket closes what was opened in it as well; one that closes nothing is a mark.
            if character in open_brackets:
                del open_brackets[open_brackets.index(character) :]
        elif not open_brackets:
            kept.append(character)
    return "".join(kept)


def _without_marks(word: str) -> str:
    """Return a word without marks at its ends, `*` and `~` in it, and more than single spaces."""
    word = " ".join(word.replace("*", "").replace("~", "").split())
    start, end = 0, len(word)
    while start < end and _is_mark(word[start]):
        start += 1
    while end > start and _is_mark(word[end - 1]):
        end -= 1
    word = word[start:end]
    # An apostrophe may be a letter at one end, as in `po'`; at both ends it quotes.
    is_quoted = len(word) > 1 and word[0] in APOSTROPHES and word[-1] in APOSTROPHES
    word = word[1:-1] if is_quoted else word
    return word if any(unicodedata.category(character)[0] in "LN" for character in word) else ""


def _is_mark(character: str) -> bool:
    """Whether a character is no part of a word that it begins or ends.

    Double quotes are left, for whoever reads the list says what is wrong with them.
    """
    category = unicodedata.category(character)
    if character in APOSTROPHES or character == '"':
        return False
    return category[0] in "PSZC" or category == "No"
