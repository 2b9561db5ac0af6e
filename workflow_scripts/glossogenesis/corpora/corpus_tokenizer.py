"""Texts to token records: ids, positions and languages of every token, in one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glossogenesis.corpora.control_tokens import control_ids, text_tokenizer
from glossogenesis.corpora.token_languages import ScriptLanguages
from glossogenesis.corpora.tokenised import NO_DOCUMENT, NO_LANGUAGE
from glossogenesis.corpora.vocabulary import vocabulary_bytes
from glossogenesis.errors import StudyError

RECORD = np.dtype(
    [
        ("token_ids", np.int32),
        ("documents", np.int32),
        ("positions", np.int32),
        ("token_languages", np.uint8),
        ("kept", np.bool_),
    ]
)
"""What is known of a token before it is in a context; names as in `ContextBlock`."""


@dataclass(frozen=True)
class CorpusTokenizer:
    """A fast tokenizer and the ids that corpora treat apart."""

    backend: Any
    """The `tokenizers.Tokenizer`, which splits control tokens in texts."""
    vocabulary: Sequence[bytes]
    """The bytes of each token, by its id."""
    digest: str
    """The checkpoint's `tokenizer_digest`."""
    special_ids: frozenset[int]
    """Tokens that stand for no text. That of unknown words is not among them: it is text."""
    end_id: int | None
    """The end-of-document token, where there is one."""
    pad_id: int
    """Fills padding: the tokenizer's own, else its end-of-document token, else 0."""

    @classmethod
    def of(cls, tokenizer: Any, digest: str, folder: Path | str) -> CorpusTokenizer:
        """Wrap a transformers tokenizer that was loaded from `folder`.

        StudyError where it is not a fast one, which alone tell the characters of each token.
        """
        if not tokenizer.is_fast:
            raise StudyError(
                f"{folder}: the tokenizer has no fast form, which tells the characters of each "
                "token; save a tokenizer.json beside it"
            )
        pad_ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return cls(
            backend=text_tokenizer(tokenizer),
            vocabulary=vocabulary_bytes(tokenizer.backend_tokenizer),
            digest=digest,
            special_ids=control_ids(tokenizer),
            end_id=tokenizer.eos_token_id,
            pad_id=next(token for token in pad_ids if token is not None),
        )


@dataclass(frozen=True)
class RecordMaker:
    """Makes records of texts in one way."""

    tokenizer: CorpusTokenizer
    languages: ScriptLanguages
    add_special_tokens: bool
    """Whether the tokenizer adds its own, such as a token at the beginning of each document."""
    end_documents: bool
    """Whether each document is ended by the end-of-document token, where the tokenizer has one
    and has not put it there itself."""
    longest: int | None
    """Tokens of a document after which it is truncated; special tokens stay, as the tokenizer
    places them."""

    def records(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the records `[token]` of all texts in a row, and the `[text]` number of each.

        `documents` counts the texts from 0. `kept` is False at special tokens alone.
        """
        ids, spans, lengths = self._encoded(texts)
        records = np.zeros(len(ids), dtype=RECORD)
        if not len(ids):
            return records, lengths
        first_tokens = np.cumsum(lengths) - lengths
        special = np.isin(ids, list(self.tokenizer.special_ids))
        languages = self.languages.of_tokens(texts, spans, lengths)
        records["token_ids"] = ids
        records["documents"] = np.repeat(np.arange(len(texts)), lengths)
        records["positions"] = np.arange(len(ids)) - np.repeat(first_tokens, lengths)
        records["token_languages"] = np.where(special, NO_LANGUAGE, languages)
        records["kept"] = ~special
        return records, lengths

    def _encoded(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return token ids `[token]`, spans `[token, 2]` and tokens of each text `[text]`."""
        backend = self.tokenizer.backend
        backend.no_padding()
        if self.longest is None:
            backend.no_truncation()
        else:
            backend.enable_truncation(self.longest)
        encodings = backend.encode_batch(list(texts), add_special_tokens=self.add_special_tokens)
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        lengths = []
        for text, encoding in zip(texts, encodings, strict=True):
            before = len(ids)
            ids += encoding.ids
            spans += encoding.offsets
            if self._lacks_end(ids[before:][-1:]):
                ids.append(self.tokenizer.end_id or 0)
                spans.append((len(text), len(text)))
            lengths.append(len(ids) - before)
        return (
            np.array(ids, dtype=np.int32),
            np.array(spans, dtype=np.int64).reshape(-1, 2),
            np.array(lengths, dtype=np.int64),
        )

    def _lacks_end(self, last: list[int]) -> bool:
        end = self.tokenizer.end_id
        return self.end_documents and end is not None and last != [end]


def padding(shape: tuple[int, ...], pad_id: int) -> np.ndarray:
    """Return records of padding."""
    records = np.zeros(shape, dtype=RECORD)
    records["token_ids"] = pad_id
    records["documents"] = NO_DOCUMENT
    records["token_languages"] = NO_LANGUAGE
    return records
