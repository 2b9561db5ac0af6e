"""Prompts to the character, their patched position, and tokenizers that merge across quotes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tokenizers import Tokenizer

from glossogenesis.concepts.prompts import (
    answer_tokens,
    first_answer_tokens,
    require_open_end,
    tokenise_prompt,
)
from glossogenesis.corpora.lexicon import Concept, Lexicon
from glossogenesis.exceptions import StudyError
from support.tiny_tokenizers import across_quotes, byte_level, encoder, with_ends, word_level

ENDONYMS = {"es": "Español", "fr": "Français", "ja": "日本語"}
PAIR = ("es", "fr")


def concept(name: str, es: str, fr: str, ja: str) -> Concept:
    return Concept(name, "noun", "", "", {"es": (es,), "fr": (fr, f"{fr}s"), "ja": (ja,)})


CAT = concept("cat", "gato", "chat", "猫")
DOG = concept("dog", "perro", "chien", "犬")
HOUSE = concept("house", "casa", "maison", "家")
PROMPT = (
    'Español: "gato" - Français: "chat"\n'
    'Español: "perro" - Français: "chien"\n'
    'Español: "casa" - Français: "'
)
LINES = [PROMPT, PROMPT + "maison", '日本語: "猫" - Français: "chats', "chiens maisons 犬 家 eau à"]


@pytest.mark.parametrize("train", [word_level, byte_level], ids=["words", "bytes"])
def test_prompt_and_position(train: Callable[[Sequence[str]], Tokenizer]) -> None:
    tokenizer = train(LINES)
    prompt = tokenise_prompt(HOUSE, PAIR, [CAT, DOG], ENDONYMS, encoder(tokenizer))
    assert prompt.text == PROMPT
    assert tokenizer.decode(list(prompt.token_ids)).replace(" ", "") == PROMPT.replace(" ", "")
    before, after = prompt.token_ids[: prompt.position + 1], prompt.token_ids[prompt.position + 1 :]
    assert tokenizer.decode(list(before)).replace(" ", "").endswith('"casa')
    assert tokenizer.decode(list(after)).replace(" ", "") == '"-Français:"'


def test_position_counts_the_start_token() -> None:
    plain = tokenise_prompt(HOUSE, PAIR, [CAT], ENDONYMS, encoder(word_level(LINES)))
    opened = with_ends(word_level(LINES), "<s> $A")
    prompt = tokenise_prompt(HOUSE, PAIR, [CAT], ENDONYMS, encoder(opened))
    assert prompt.position == plain.position + 1
    assert prompt.token_ids[0] == opened.token_to_id("<s>")


def test_merging_with_the_closing_quote_names_the_prompt() -> None:
    encode = encoder(across_quotes([PROMPT] * 5))
    with pytest.raises(
        StudyError,
        match=r"merges the word 'gato' with the quote after it \(concept 'cat', es to fr, prompt "
        r"'Español: \"gato\" - Français: \"'\).*leave the concept or the language out",
    ):
        tokenise_prompt(CAT, PAIR, [], ENDONYMS, encode)


def test_merging_with_the_opening_quote_names_the_word() -> None:
    encode = encoder(across_quotes([PROMPT] * 5))
    with pytest.raises(StudyError, match=r"merges the word 'chat' \(fr\) with the quote before it"):
        first_answer_tokens(["chat"], "fr", "Français", encode, space_variants=False)


def test_first_tokens_of_all_words() -> None:
    tokenizer = word_level(LINES)
    tokens = first_answer_tokens(
        ["chat", "chats"], "fr", "Français", encoder(tokenizer), space_variants=False
    )
    assert tokens == {tokenizer.token_to_id("chat"), tokenizer.token_to_id("chats")}


def test_a_lone_space_is_no_first_token() -> None:
    encode = encoder(word_level(LINES))
    both = [
        first_answer_tokens(["chat"], "fr", "Français", encode, space_variants=variants)
        for variants in (False, True)
    ]
    assert both[0] == both[1]


def test_a_word_after_a_space_is_a_first_token() -> None:
    tokenizer = byte_level(["chat chat chat chat"] * 5)
    tokens = first_answer_tokens(
        ["chat"], "fr", "Français", encoder(tokenizer), space_variants=True
    )
    assert tokens == {tokenizer.token_to_id("chat"), tokenizer.token_to_id("Ġchat")}


def test_answers_in_every_language() -> None:
    tokenizer = word_level(LINES)
    tokens = answer_tokens(
        Lexicon((CAT, DOG), 0), ["fr", "ja"], ENDONYMS, encoder(tokenizer), space_variants=True
    )
    assert tokens["cat"]["ja"] == {tokenizer.token_to_id("猫")}
    assert tokens["dog"]["fr"] == {tokenizer.token_to_id("chien"), tokenizer.token_to_id("chiens")}


@pytest.mark.parametrize("template", ["$A </s>", "<s> $A </s>"])
def test_texts_that_the_tokenizer_closes(template: str) -> None:
    closed = with_ends(word_level(LINES), template)
    with pytest.raises(
        StudyError, match=r"ends every text with the special token \d+.*add_special"
    ):
        require_open_end(encoder(closed))
    require_open_end(encoder(with_ends(word_level(LINES), "<s> $A")))
    require_open_end(encoder(byte_level(LINES)))
