"""The bytes that each token of a tokenizer stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

_PRINTED_AS_THEMSELVES = (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))
"""Bytes that byte-level tokenizers write as the character of that number."""


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


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character writes: unprintable ones count on from character 256."""
    themselves = [byte for part in _PRINTED_AS_THEMSELVES for byte in part]
    others = [byte for byte in range(256) if byte not in themselves]
    return {chr(byte): byte for byte in themselves} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }


_BYTE_OF_CHARACTER = _byte_alphabet()
