"""Where a generated answer ends, and its text: the same in every script and every study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from glossogenesis.corpora.control_tokens import control_ids, end_ids


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens of a model that end an answer, and those that are no text."""

    tokenizer: Any
    """The model's, of transformers."""
    end_ids: frozenset[int]
    """Control tokens that end an answer and have no text."""
    stop_ids: frozenset[int]
    """All tokens after which nothing is generated: those, and every one whose text has the
    character that closes an answer."""
    control_ids: frozenset[int]
    """Tokens that stand for no text."""

    @classmethod
    def of(cls, tokenizer: Any, model: Any, ends_at: str) -> AnswerTokens:
        """Tokens of a model of transformers whose answers end at a character, or with its text."""
        generation = getattr(model, "generation_config", None)
        ends = end_ids(tokenizer, [model.config, generation])
        controls = control_ids(tokenizer) | ends
        closing = tokens_with(ends_at, model.config.vocab_size, tokenizer) - controls
        return cls(tokenizer, ends, closing | ends, controls)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of generated tokens up to the first that ends them; -1 stands for no token."""
        before_end = takewhile(lambda token: token not in self.end_ids, tokens)
        plain = [token for token in before_end if token >= 0 and token not in self.control_ids]
        return _decoded(self.tokenizer, plain) if plain else ""


def tokens_with(character: str, vocabulary_size: int, tokenizer: Any) -> frozenset[int]:
    """Return the tokens whose text contains a character."""
    return frozenset(
        token for token in range(vocabulary_size) if character in _decoded(tokenizer, [token])
    )


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, clean_up_tokenization_spaces=False))
