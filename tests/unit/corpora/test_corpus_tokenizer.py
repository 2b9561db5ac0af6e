import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from glossogenesis.corpora.contexts import CorpusTokenizer, RecordMaker
from glossogenesis.corpora.token_languages import ScriptLanguages
from glossogenesis.exceptions import StudyError
from support.tiny_tokenizers import byte_level, with_ends, word_level

LINES = ["the cat sat, the cat ran", "кот и дом", "猫 ねこ"]
LANGUAGES = ScriptLanguages.of({"en": "Latin", "ja": "Japanese", "ru": "Cyrillic"})


def wrapped(backend, **special):
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    return CorpusTokenizer.of(fast, "digest", "folder")


def maker(tokenizer, *, add=False, end=True, longest=None):
    return RecordMaker(tokenizer, LANGUAGES, add, end_documents=end, longest=longest)


def words(lines=LINES):
    return wrapped(
        with_ends(word_level(lines), "<s> $A"), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def test_documents_are_ended_and_their_tokens_counted():
    tokenizer = words()
    records, lengths = maker(tokenizer).records(["the cat", "кот"])
    assert lengths.tolist() == [4, 2]
    assert records["documents"].tolist() == [0, 0, 0, 0, 1, 1]
    assert records["positions"].tolist() == [0, 1, 2, 3, 0, 1]
    assert records["kept"].tolist() == [True, True, True, False, True, False]
    assert records["token_languages"].tolist() == [0, 0, 0, 255, 2, 255]
    assert records["token_ids"][[3, 5]].tolist() == [tokenizer.end_id] * 2


def test_special_tokens_are_added_as_the_setting_says_and_never_kept():
    tokenizer = words()
    without, _ = maker(tokenizer, end=False).records(["the cat"])
    with_beginning, _ = maker(tokenizer, add=True, end=False).records(["the cat"])
    assert with_beginning["token_ids"][1:].tolist() == without["token_ids"].tolist()
    assert with_beginning["kept"].tolist() == [False, True, True, True]
    assert with_beginning["positions"].tolist() == [0, 1, 2, 3]


def test_an_end_that_the_tokenizer_adds_is_not_doubled():
    tokenizer = wrapped(with_ends(word_level(LINES), "<s> $A </s>"), eos_token="</s>")
    records, lengths = maker(tokenizer, add=True).records(["the", "cat"])
    assert lengths.tolist() == [3, 3]
    assert (records["token_ids"] == tokenizer.end_id).sum() == 2


def test_truncated_documents_keep_the_special_tokens_of_the_tokenizer():
    tokenizer = wrapped(with_ends(word_level(LINES), "<s> $A </s>"), eos_token="</s>")
    limited = maker(tokenizer, add=True, end=False, longest=4)
    records, lengths = limited.records(["the cat sat", "кот"])
    assert lengths.tolist() == [4, 3]
    assert records["token_ids"][[3, 6]].tolist() == [tokenizer.end_id] * 2
    # The limit does not outlive the call.
    assert maker(tokenizer, end=False).records(["the cat sat"])[1].tolist() == [5]


def test_every_byte_of_a_character_has_its_language():
    tokenizer = wrapped(byte_level(["ascii alone"], size=256))
    records, lengths = maker(tokenizer).records(["a猫кb"])
    assert lengths.tolist() == [7]
    assert records["token_languages"].tolist() == [0, 1, 1, 1, 2, 2, 0]
    assert records["kept"].all()


def test_unknown_words_are_text_unless_their_token_is_another_one_too():
    tokenizer = words()
    records, _ = maker(tokenizer, end=False).records(["zebra"])
    assert records["kept"].tolist() == [True]
    same = wrapped(word_level(LINES), unk_token="<unk>", eos_token="<unk>")
    assert same.special_ids == {same.end_id}


def test_padding_is_the_tokenizers_own_else_the_end_else_zero():
    backend = with_ends(word_level(LINES), "$A")
    assert wrapped(backend, pad_token="<s>", eos_token="</s>").pad_id == backend.token_to_id("<s>")
    assert wrapped(backend, eos_token="</s>").pad_id == backend.token_to_id("</s>")
    assert wrapped(backend).pad_id == 0
    assert wrapped(backend).end_id is None


def test_texts_without_tokens_give_no_records():
    records, lengths = maker(wrapped(word_level(LINES))).records(["", ""])
    assert len(records) == 0
    assert np.array_equal(lengths, [0, 0])


def test_a_tokenizer_without_a_fast_form_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(StudyError, match=r"some/folder: .*no fast form.*tokenizer.json"):
        CorpusTokenizer.of(Slow(), "digest", "some/folder")
