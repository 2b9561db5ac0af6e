"""Small tokenizers of the kinds that models have, trained on given lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

Encode = Callable[[str], list[int]]


def word_level(lines: Sequence[str]) -> Tokenizer:
    """Every word is a token, and so is every other character."""
    tokenizer = Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\W"), "isolated")
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def byte_level(lines: Sequence[str], size: int = 400) -> Tokenizer:
    """Byte pairs within words, as in GPT-2: quotes stand apart from words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def across_quotes(lines: Sequence[str], size: int = 400) -> Tokenizer:
    """Byte pairs between spaces, so that a word can merge with the quotes around it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def with_ends(tokenizer: Tokenizer, template: str) -> Tokenizer:
    """Add `<s>` and `</s>` where `template` has them, such as `<s> $A`."""
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return tokenizer


def encoder(tokenizer: Tokenizer) -> Encode:
    """Turn text into token ids, with special tokens."""

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    return encode
