"""Control tokens: text never spells one, one is no text, and some of them end an answer.

A tokenizer reads `<|endoftext|>` in a document as its control token unless set otherwise. Here
text is only text: what looks like a control token is split like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

Encode = Callable[[str], list[int]]
"""Turns a text into token ids, with the special tokens that open a prompt."""

_NAMED = ("bos", "eos", "pad", "sep", "cls", "mask")


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Return the tokens of a transformers tokenizer that stand for no text.

    That of unknown words is not among them: it stands for text.
    """
    named = {getattr(tokenizer, f"{name}_token_id", None) for name in _NAMED}
    added = {
        number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    } | set(tokenizer.all_special_ids)
    # The model of a fast tokenizer may have one that the tokenizer itself does not name.
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    of_model = getattr(model, "unk_token", None)
    unnamed = tokenizer.convert_tokens_to_ids(of_model) if of_model is not None else None
    unknown = {tokenizer.unk_token_id, unnamed} - named
    return frozenset(number for number in (added | named) - unknown if number is not None)


def end_ids(tokenizer: Any, configurations: Iterable[Any] = ()) -> frozenset[int]:
    """Return the tokens that end a text: the tokenizer's own, and those of its model.

    `configurations` are those of a model and of its generation, of transformers; both may name
    several tokens. Of these only control tokens of the tokenizer count: where a model names none,
    transformers takes a number that is another word here.
    """
    named: set[int] = set()
    for configuration in configurations:
        ends = getattr(configuration, "eos_token_id", None)
        listed = ends if isinstance(ends, list | tuple) else [ends]
        named |= {number for number in listed if number is not None}
    own = {tokenizer.eos_token_id} - {None}
    return frozenset(own | (named & control_ids(tokenizer)))


def text_tokenizer(tokenizer: Any) -> Any:
    """Return the `tokenizers.Tokenizer` of a fast tokenizer that splits control tokens as text.

    The special tokens that open or close a text are added as ever.
    """
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True
    backend.no_padding()
    backend.no_truncation()
    controls = control_ids(tokenizer)
    spelled = [
        number
        for number in sorted(controls)
        if number in backend.encode(_written(tokenizer, number), add_special_tokens=False).ids
    ]
    return _without_words(backend, controls) if spelled else backend


def text_encoder(tokenizer: Any, *, add_special_tokens: bool) -> Encode:
    """Return what turns a text into token ids, of a transformers tokenizer, fast or not."""
    if not tokenizer.is_fast:
        return lambda text: list(
            tokenizer.encode(text, add_special_tokens=add_special_tokens, split_special_tokens=True)
        )
    backend = text_tokenizer(tokenizer)
    return lambda text: list(backend.encode(text, add_special_tokens=add_special_tokens).ids)


def _written(tokenizer: Any, number: int) -> str:
    return str(tokenizer.convert_ids_to_tokens(number))


def _without_words(backend: Any, controls: frozenset[int]) -> Any:
    """Return a tokenizer whose model has no word for control tokens.

    Unigram models and those of whole words find them in their own vocabulary, wherever they stand.
    """
    from tokenizers import Tokenizer

    written = json.loads(backend.to_str())
    model = written["model"]
    # No text holds the noncharacter U+FFFF, so nothing matches these names.
    if isinstance(model["vocab"], dict):
        model["vocab"] = {
            f"\uffff{number}" if number in controls else word: number
            for word, number in model["vocab"].items()
        }
    else:
        model["vocab"] = [
            [f"\uffff{number}" if number in controls else word, score]
            for number, (word, score) in enumerate(model["vocab"])
        ]
    written["added_tokens"] = [one for one in written["added_tokens"] if one["id"] not in controls]
    without = Tokenizer.from_str(json.dumps(written, ensure_ascii=False))
    without.encode_special_tokens = True
    return without


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
