"""The language of a token by its script, from the characters that it covers.

Only letters and their combining marks (general categories L and M) have a script. Of the most
frequent scripts it is read off a character's Unicode name (`CYRILLIC SMALL LETTER A`), which tells
it of letters that several scripts share; of all others it is the property `Script`. `Japanese` is
kana and Han together; other names of scripts are one Unicode script each.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import regex

from glossogenesis.corpora.tokenised import NO_LANGUAGE
from glossogenesis.study.inputs import JAPANESE, Script

NO_LETTER = 0
"""Class of characters that are no letters."""

OTHER_SCRIPT = 1
"""Class of letters of scripts that no language setting names."""

_CLASS_OF_NAME: Mapping[str, str] = {
    "LATIN": "Latin",
    "CYRILLIC": "Cyrillic",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HENTAIGANA": "Kana",
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "DEVANAGARI": "Devanagari",
    "HANGUL": "Hangul",
    "GREEK": "Greek",
}
"""Word of a character's Unicode name to the class of its letter."""

_CLASSES = ("", "other", *dict.fromkeys(_CLASS_OF_NAME.values()))

_CLASSES_OF_SCRIPT: Mapping[str, tuple[str, ...]] = {
    JAPANESE: ("Kana", "Han"),
    "Hiragana": ("Kana",),
    "Katakana": ("Kana",),
}
"""Scripts that are other classes than one of their own name."""

_WORD = re.compile(r"[A-Z]+")

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

_PRINTED_AS_THEMSELVES = (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))
"""Bytes that byte-level tokenizers write as the character of that number."""


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character writes: unprintable ones count on from character 256."""
    themselves = [byte for part in _PRINTED_AS_THEMSELVES for byte in part]
    others = [byte for byte in range(256) if byte not in themselves]
    return {chr(byte): byte for byte in themselves} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }


_BYTE_OF_CHARACTER = _byte_alphabet()


def languages_known_by_script(scripts: Mapping[str, Script]) -> tuple[str, ...]:
    """Return the languages, of those given with their scripts, whose letters all are theirs alone.

    Languages that share letters cannot be distinguished by script, so their document's language
    must decide; Japanese and Chinese share Han, for example.
    """
    owners = _owners(scripts)
    return tuple(
        language
        for language, script in scripts.items()
        if all(len(owners[name]) == 1 for name in _classes_of(script))
    )


@dataclass(frozen=True)
class ScriptLanguages:
    """Tells the language of tokens by the script of their letters."""

    language_of_character: np.ndarray
    """uint8 by code point: index of the language whose letter it is; 255 where it is a letter of
    none or of several languages, or no letter."""
    is_letter: np.ndarray
    """bool by code point."""

    @classmethod
    def of(cls, scripts: Mapping[str, Script]) -> ScriptLanguages:
        """Prepare for the languages of a corpus, in its order, given with their scripts."""
        codes = list(scripts)
        classes = _class_of_character()
        language_of_character = np.full(len(classes), NO_LANGUAGE, dtype=np.uint8)
        for name, languages in _owners(scripts).items():
            if len(languages) == 1:
                language_of_character[_letters_of(name)] = codes.index(languages[0])
        return cls(language_of_character, classes != NO_LETTER)

    def of_tokens(
        self, texts: Sequence[str], spans: np.ndarray, tokens_of_text: np.ndarray
    ) -> np.ndarray:
        """Return the language of each token, uint8 `[token]`, all texts' tokens in a row.

        `spans` is `[token, 2]`: first character in its text and the one after the last. Every token
        that is a part of a character has the span of that character. `tokens_of_text` is `[text]`:
        the number of tokens of each. A token has the language of its first letter, and one without
        letters that of the nearest earlier token of its text with letters. 255 stands where that is
        a letter of no language of the corpus or of several, or there is none.
        """
        if not len(spans):
            return np.zeros(0, dtype=np.uint8)
        characters = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        first_characters = np.cumsum([0, *(len(text) for text in texts[:-1])])
        starts, ends = (spans + np.repeat(first_characters, tokens_of_text)[:, None]).T
        # The character after the last has no letter, for tokens at the end.
        next_letter = np.append(_next_true(self.is_letter[characters]), len(characters))
        letters = next_letter[starts]
        lettered = letters < ends
        languages = np.full(len(spans), NO_LANGUAGE, dtype=np.uint8)
        languages[lettered] = self.language_of_character[characters[letters[lettered]]]
        earlier = _latest_true(lettered)
        first_tokens = np.repeat(np.cumsum([0, *tokens_of_text[:-1]]), tokens_of_text)
        inherits = earlier >= first_tokens
        return np.where(inherits, languages[earlier], np.uint8(NO_LANGUAGE))


def _owners(scripts: Mapping[str, Script]) -> dict[str, list[str]]:
    """Return the languages that write with each class of letters."""
    owners: dict[str, list[str]] = {}
    for language, script in scripts.items():
        for name in _classes_of(script):
            owners.setdefault(name, []).append(language)
    return owners


def _classes_of(script: str) -> tuple[str, ...]:
    """Return the classes of a script's letters: one of its own name, but for few."""
    return _CLASSES_OF_SCRIPT.get(script, (script,))


@cache
def _letters_of(name: str) -> np.ndarray:
    """Return the code points of a class of letters, ascending."""
    if name in _CLASSES:
        return np.flatnonzero(_class_of_character() == _CLASSES.index(name))
    found = regex.finditer(rf"(?V1)[\p{{Script={name}}}&&[\p{{L}}\p{{M}}]]", _every_character())
    return np.array([match.start() for match in found], dtype=np.int64)


@cache
def _every_character() -> str:
    return "".join(map(chr, range(sys.maxunicode + 1)))


@cache
def _class_of_character() -> np.ndarray:
    """Return the class of every code point, uint8: an index into `_CLASSES`."""
    every = map(_class_of, map(chr, range(sys.maxunicode + 1)))
    return np.fromiter(every, dtype=np.uint8, count=sys.maxunicode + 1)


def has_letter(text: str) -> bool:
    """Whether a text has a letter of any script, or a mark that belongs to one."""
    return any(_class_of(character) != NO_LETTER for character in text)


def _class_of(character: str) -> int:
    """Return the class of a character: an index into `_CLASSES`."""
    category = unicodedata.category(character)
    if category[0] not in "LM":
        return NO_LETTER
    named = _class_by_name(character)
    if named is None and category[0] == "L":
        # Letters such as ª and bold mathematical ones stand for plain letters.
        named = _class_by_name(unicodedata.normalize("NFKC", character)[0])
    if named is not None:
        return _CLASSES.index(named)
    # Marks and modifiers of no script, such as a combining acute, take the language of what stands
    # before them.
    return OTHER_SCRIPT if category in ("Lu", "Ll", "Lt", "Lo") else NO_LETTER


def _class_by_name(character: str) -> str | None:
    words = _WORD.findall(unicodedata.name(character, ""))
    return next((_CLASS_OF_NAME[word] for word in words if word in _CLASS_OF_NAME), None)


def _next_true(flags: np.ndarray) -> np.ndarray:
    """Return, for each index, the nearest one not before it where `flags` is true, or its end."""
    indices = np.where(flags, np.arange(len(flags)), len(flags))
    return np.minimum.accumulate(indices[::-1])[::-1]


def _latest_true(flags: np.ndarray) -> np.ndarray:
    """Return, for each index, the nearest one not after it where `flags` is true, or -1."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), -1))


def vocabulary_bytes(tokenizer: Any) -> list[bytes]:
    """Return the bytes of each token of a `tokenizers.Tokenizer`, by its id.

    They follow from the tokenizer's decoder: tokens of byte-level tokenizers stand for bytes, of
    which several may make up one character; `▁` and the like stand for spaces. Added tokens are
    written as they are, and ids that no token has are empty.
    """
    tokens = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
    added = tokenizer.get_added_tokens_decoder()
    to_bytes = _decoder(json.loads(tokenizer.to_str())["decoder"])
    found = {token_id: to_bytes(token) for token_id, token in tokens.items()}
    found |= {token_id: token.content.encode() for token_id, token in added.items()}
    return [found.get(token_id, b"") for token_id in range(max(found) + 1)]


def _decoder(written: dict[str, Any] | None) -> Callable[[str], bytes]:
    """Return how one token becomes bytes under a tokenizer's decoder, given as in its file."""
    parts = _parts(written)
    kinds = {part["type"] for part in parts}
    if "ByteLevel" in kinds:
        return _byte_level
    spaces = {part["replacement"]: " " for part in parts if part["type"] == "Metaspace"}
    spaces |= {
        part["pattern"]["String"]: part["content"]
        for part in parts
        if part["type"] == "Replace" and "String" in part["pattern"]
    }

    def replaced(token: str) -> bytes:
        if "ByteFallback" in kinds and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        for mark, space in spaces.items():
            token = token.replace(mark, space)
        return token.encode()

    return replaced


def _parts(written: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps of a decoder."""
    if written is None:
        return []
    if written["type"] == "Sequence":
        return [part for step in written["decoders"] for part in _parts(step)]
    return [written]


def _byte_level(token: str) -> bytes:
    """Return the bytes of a token whose characters each write one byte (as in GPT-2)."""
    return b"".join(_bytes_of(character) for character in token)


def _bytes_of(character: str) -> bytes:
    byte = _BYTE_OF_CHARACTER.get(character)
    return character.encode() if byte is None else bytes([byte])
