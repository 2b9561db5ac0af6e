import pytest
from tokenizers import Tokenizer, decoders, models

from glossogenesis.corpora.token_languages import vocabulary_bytes
from support.tiny_tokenizers import byte_level, with_ends, word_level

LINES = ["日本語のテキスト, текст and text.\n\t«»"]


def test_byte_level_tokens_are_their_bytes():
    tokenizer = with_ends(byte_level(LINES), "<s> $A")
    found = vocabulary_bytes(tokenizer)
    assert len(found) == tokenizer.get_vocab_size()
    for text in (LINES[0], "añb𝐀\x00\xad €"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(found[token] for token in ids).decode() == text
    assert found[tokenizer.token_to_id("<s>")] == b"<s>"


PARTS = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


@pytest.mark.parametrize(
    ("decoder", "byte"),
    [(decoders.Sequence(PARTS), b"\xe3"), (decoders.Metaspace(), b"<0xE3>")],
)
def test_byte_fallback_and_marks_of_spaces_are_understood(decoder, byte):
    tokenizer = Tokenizer(models.BPE({"▁cat": 0, "<0xE3>": 1, "cat": 3}, []))
    tokenizer.decoder = decoder
    assert vocabulary_bytes(tokenizer) == [b" cat", byte, b"", b"cat"]


def test_tokens_of_other_tokenizers_are_what_they_are():
    tokenizer = word_level(LINES)
    found = vocabulary_bytes(tokenizer)
    assert found[tokenizer.token_to_id("текст")] == "текст".encode()
