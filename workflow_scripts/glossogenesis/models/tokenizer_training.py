"""Train a byte-level BPE tokenizer whose tokens never join a word with a quote beside it."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from glossogenesis.errors import StudyError

END_OF_DOCUMENT = "<|endoftext|>"

_OWN_SCRIPT = r"\p{Han}\p{Hiragana}\p{Katakana}ー"

PIECES = "|".join(
    (
        r"\p{N}",
        r" ?\p{Han}+",
        r" ?\p{Hiragana}+",
        r" ?[\p{Katakana}ー]+",
        rf" ?[[\p{{L}}\p{{M}}]&&[^{_OWN_SCRIPT}]]+",
        r"\n",
        r"[^\p{L}\p{M}\p{N}\n]+(?= )",
        r"[^\p{L}\p{M}\p{N}\n]+",
    )
)
"""Pieces within which bytes may merge: a digit, a run of letters with a space before it, a line
break, or a run of anything else, which leaves its last space to the piece after it.

A quote is never in a token with letters, so a word has the same tokens between quotes whatever
stands around them. Han, Hiragana and Katakana end each other's runs, as Japanese has no spaces.
"""


def train_tokenizer(
    texts: Iterable[str], *, vocabulary: int, positions: int
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `vocabulary` tokens, of which 256 are bytes and one ends documents.

    It adds no token of its own to a text. `positions` is the longest text that it declares.
    StudyError where the text is too little to find so many tokens.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    found = tokenizer.get_vocab_size()
    if found < vocabulary:
        raise StudyError(
            f"the text yields {found} tokens, and `model.vocabulary` asks for {vocabulary}; lower "
            "it to at most that, or give more text"
        )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers annotates no arguments
        tokenizer_object=tokenizer,
        eos_token=END_OF_DOCUMENT,
        pad_token=END_OF_DOCUMENT,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
