"""Text that spells a control token is text, with every kind of tokenizer, in all that is read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat
from random import Random
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from glossogenesis.corpora.contexts import CorpusTokenizer, RecordMaker
from glossogenesis.corpora.control_tokens import control_ids, end_ids, text_encoder
from glossogenesis.corpora.documents import Document
from glossogenesis.corpora.token_languages import ScriptLanguages
from glossogenesis.pretraining.text import token_batches
from support.tiny_pretraining import settings_of
from support.tiny_tokenizers import byte_level, with_ends, word_level

TEXT = "Press </s> to stop"
LINES = [TEXT, "<s> a b"]


def unigram(lines: list[str]) -> Tokenizer:
    """As SentencePiece makes them: control tokens stand in the model's own vocabulary."""
    letters = sorted({letter for line in lines for letter in line if letter != " "})
    pieces = [("<unk>", 0.0), ("▁", -2.0), *((letter, -4.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("<s>", 0.0), ("</s>", 0.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def words_between_spaces(lines: list[str]) -> Tokenizer:
    """Whole words, and control tokens among them."""
    tokenizer = word_level([*lines, "</s> <s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.fixture(params=[byte_level, word_level, unigram, words_between_spaces])
def tokenizer(request: Any) -> Any:
    backend = with_ends(request.param(LINES), "<s> $A")
    known = "<unk>" if backend.token_to_id("<unk>") is not None else None
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token=known
    )


def test_prompts_split_what_looks_like_a_control_token(tokenizer: Any) -> None:
    encode = text_encoder(tokenizer, add_special_tokens=True)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert end in tokenizer.encode(TEXT)
    ids = encode(TEXT)
    assert ids[0] == begin
    assert not {begin, end} & set(ids[1:])
    assert text_encoder(tokenizer, add_special_tokens=False)(TEXT) == ids[1:]
    assert encode("Press to") == tokenizer.encode("Press to")


def test_corpora_and_posts_split_it_and_keep_all_of_it(tokenizer: Any) -> None:
    corpus = CorpusTokenizer.of(tokenizer, "digest", "folder")
    maker = RecordMaker(corpus, ScriptLanguages.of({}), True, end_documents=True, longest=None)
    records, (length,) = maker.records([TEXT])
    assert records["token_ids"][[0, -1]].tolist() == [tokenizer.bos_token_id, corpus.end_id]
    assert records["kept"].tolist() == [False, *[True] * (length - 2), False]
    assert corpus.vocabulary[corpus.end_id] == b"</s>"


def test_training_text_splits_it() -> None:
    backend = with_ends(byte_level(LINES), "$A")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    settings = settings_of()

    def documents(phase: int, rng: Random) -> Iterator[Document]:
        return repeat(Document(TEXT, ("en",)))

    (ids,) = islice(token_batches(documents, tokenizer, settings, 1), 1)
    of_document = len(text_encoder(tokenizer, add_special_tokens=False)(TEXT))
    assert of_document > len(tokenizer.encode(TEXT))
    ends = torch.nonzero(ids.flatten() == tokenizer.eos_token_id).flatten().tolist()
    assert ends == list(range(of_document, ids.numel(), of_document + 1))


def test_a_control_token_without_a_name_is_one() -> None:
    backend = word_level(LINES)
    backend.add_special_tokens(["<|im_end|>"])
    backend.add_tokens(["stop"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert control_ids(tokenizer) == {backend.token_to_id("<|im_end|>")}
    assert end_ids(tokenizer) == set()


def test_a_tokenizer_without_a_fast_form_is_asked_to_split() -> None:
    class Slow:
        is_fast = False

        def encode(self, text: str, **how: bool) -> list[int]:
            assert how == {"add_special_tokens": True, "split_special_tokens": True}
            return [len(text)]

    assert text_encoder(Slow(), add_special_tokens=True)("</s>") == [4]
