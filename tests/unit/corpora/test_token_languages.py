import numpy as np
import pytest

from glossogenesis.corpora.token_languages import ScriptLanguages, languages_known_by_script

NONE = 255
SCRIPTS = {"en": "Latin", "ja": "Japanese", "ru": "Cyrillic"}
EN, JA, RU = range(3)


def languages_of(scripts, *texts):
    """Languages of tokens: each text is given as a list of its tokens' strings."""
    spans, counts = [], []
    for tokens in texts:
        ends = np.cumsum([len(token) for token in tokens])
        spans += [(end - len(token), end) for token, end in zip(tokens, ends, strict=True)]
        counts.append(len(tokens))
    found = ScriptLanguages.of(scripts).of_tokens(
        ["".join(tokens) for tokens in texts], np.array(spans), np.array(counts)
    )
    return found.tolist()


@pytest.mark.parametrize(
    ("character", "language"),
    [
        *((character, EN) for character in "aZéßĀＡªﬁ𝐀"),
        *((character, RU) for character in "яЁҐ"),
        *((character, JA) for character in "あアーｱ漢々〆"),
        *((character, NONE) for character in "1 .、。«$½٣∑αא한अไ"),
    ],
)
def test_letters_have_the_language_of_their_script(character, language):
    assert languages_of(SCRIPTS, [character]) == [language]


@pytest.mark.parametrize(
    ("script", "letters"),
    [
        ("Han", "漢々"),
        ("Arabic", "بِ"),
        ("Hebrew", "אָ"),
        ("Devanagari", "कि"),
        ("Hangul", "한ㄱ"),
        ("Greek", "αΏ"),
    ],
)
def test_every_script_of_the_settings_is_known(script, letters):
    assert languages_of({"xx": script}, list(letters)) == [0, 0]


def test_tokens_without_letters_take_the_language_before_them():
    tokens = ["«", "cat", " ", "12", "кот", "!", "猫", "\n"]
    assert languages_of(SCRIPTS, tokens) == [NONE, EN, EN, EN, RU, RU, JA, JA]


def test_languages_do_not_pass_from_document_to_document():
    assert languages_of(SCRIPTS, ["cat", "."], [".", "кот"]) == [EN, EN, NONE, RU]


def test_a_token_has_the_language_of_its_first_letter():
    assert languages_of(SCRIPTS, [" 3Dモデル", "モデル3D"]) == [EN, JA]


def test_tokens_that_are_parts_of_a_character_belong_to_it():
    # Three tokens of the three bytes of one character, as byte-level tokenizers give them.
    spans = np.array([(0, 1), (0, 1), (0, 1), (1, 2)])
    found = ScriptLanguages.of(SCRIPTS).of_tokens(["猫."], spans, np.array([4]))
    assert found.tolist() == [JA, JA, JA, JA]


def test_special_tokens_without_characters_and_texts_without_tokens_are_fine():
    spans = np.array([(0, 0), (0, 3), (3, 3)])
    found = ScriptLanguages.of(SCRIPTS).of_tokens(["", "кот", ""], spans, np.array([0, 3, 0]))
    assert found.tolist() == [NONE, RU, RU]
    empty = ScriptLanguages.of(SCRIPTS).of_tokens([], np.zeros((0, 2)), np.zeros(0))
    assert empty.tolist() == []


def test_a_script_of_two_languages_tells_neither():
    scripts = {"en": "Latin", "es": "Latin", "ru": "Cyrillic"}
    assert languages_of(scripts, ["casa", ",", "дом", "."]) == [NONE, NONE, 2, 2]
    assert languages_known_by_script(scripts) == ("ru",)


def test_kana_tell_japanese_from_chinese_but_han_do_not():
    scripts = {"ja": "Japanese", "zh": "Han"}
    assert languages_of(scripts, ["ねこ", "猫"]) == [0, NONE]
    assert languages_known_by_script(scripts) == ()
    assert languages_known_by_script(SCRIPTS) == ("en", "ja", "ru")
