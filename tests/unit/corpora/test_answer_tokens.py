"""An end token ends an answer, and control tokens are no text, whatever the script."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from glossogenesis.concepts.scoring import CLOSING_QUOTE, answer_of, is_correct
from glossogenesis.concepts.translation import run_patching
from glossogenesis.corpora.control_tokens import AnswerTokens
from support.patch_requests import request_for
from support.tiny_models import tiny_anatomy
from support.tiny_tokenizers import word_level

LINES = ['猫 犬 cat dog แมว " : -']


def tokenizer_of(**special: str) -> Any:
    backend = word_level(LINES)
    backend.add_special_tokens(["<|endoftext|>", "<|im_end|>", "<|pad|>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **special)


def model_of(tokenizer: Any, end: Any = None, generation_end: Any = None) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(vocab_size=len(tokenizer) + 5, eos_token_id=end),
        generation_config=SimpleNamespace(eos_token_id=generation_end),
    )


def ids(tokenizer: Any, *words: str) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(word) for word in words]


@pytest.mark.parametrize(("word", "spaced"), [("猫", False), ("แมว", False), ("cat", True)])
def test_an_answer_and_its_end_token_is_right_in_every_script(word: str, spaced: bool) -> None:
    tokenizer = tokenizer_of(eos_token="<|endoftext|>")
    tokens = AnswerTokens.of(tokenizer, model_of(tokenizer), CLOSING_QUOTE)
    generated = [*ids(tokenizer, word, "<|endoftext|>", "犬"), -1]
    assert tokenizer.eos_token_id in tokens.stop_ids
    assert answer_of(tokens.text(generated)) == word
    assert is_correct(answer_of(tokens.text(generated)), [word], spaced)


def test_every_end_that_the_model_names_ends_an_answer() -> None:
    tokenizer = tokenizer_of(eos_token="<|endoftext|>")
    end, turn, cat = ids(tokenizer, "<|endoftext|>", "<|im_end|>", "cat")
    for model in (model_of(tokenizer, [end, turn]), model_of(tokenizer, end, [turn])):
        assert AnswerTokens.of(tokenizer, model, CLOSING_QUOTE).end_ids == {end, turn}
    # A configuration that names none has transformers' own number, which is a word here.
    of_word = AnswerTokens.of(tokenizer, model_of(tokenizer, cat), CLOSING_QUOTE)
    assert of_word.end_ids == {end}
    assert of_word.text([cat]) == "cat"


def test_control_tokens_are_no_text_and_closing_quotes_stop() -> None:
    tokenizer = tokenizer_of(eos_token="<|endoftext|>", pad_token="<|pad|>")
    tokens = AnswerTokens.of(tokenizer, model_of(tokenizer), CLOSING_QUOTE)
    cat, pad, turn, quote, unknown = ids(tokenizer, "猫", "<|pad|>", "<|im_end|>", '"', "<unk>")
    assert tokens.text([pad, cat, turn, pad, -1]) == "猫"
    assert tokens.text([tokenizer.eos_token_id, cat]) == ""
    assert quote in tokens.stop_ids
    assert not {cat, pad, turn} & tokens.stop_ids
    # An unknown word is a word: the answer is another one than the word before it.
    assert unknown not in tokens.control_ids


@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_patching_generates_nothing_after_an_end_token(mode: Any) -> None:
    anatomy = tiny_anatomy("llama")
    free = run_patching(anatomy, request_for(anatomy), batch_size=5, mode=mode)
    end = int(free.unpatched_generated[0, 0])
    stopped = run_patching(
        anatomy, request_for(anatomy, stop_ids=frozenset({end})), batch_size=5, mode=mode
    )
    for generated in (stopped.unpatched_generated, stopped.generated.flatten(0, -2)):
        for row in generated.tolist():
            after = row[row.index(end) + 1 :] if end in row else []
            assert set(after) <= {-1}
    assert stopped.unpatched_generated[0, 1:].tolist() == [-1] * (free.generated.shape[-1] - 1)
