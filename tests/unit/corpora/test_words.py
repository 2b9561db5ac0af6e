"""One rule of equality for words, and what of a published cell is a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossogenesis.concepts.scoring import AnswerWords, is_correct
from glossogenesis.corpora.lexicon import Concept, Lexicon, comparable, words_of_cell
from glossogenesis.robustness.cues import normalised

EQUAL = [
    ("ng’ombe", "ng'ombe"),
    ("м’ята", "м'ята"),
    ("мʼята", "м'ята"),
    ("oʻzbek", "o‘zbek"),
    ("e‑mail", "e-mail"),
    ("e–mail", "E-Mail"),
    ("co\u00adop", "coop"),
    ("می\u200fز", "میز"),
    ("cafe\u0301", "CAFÉ"),
    ("ﾈｺ", "ネコ"),
    ("ice\u00a0 cream", "ice cream"),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_spellings_of_one_word_are_equal_wherever_words_are_compared(left: str, right: str) -> None:
    assert comparable(left) == comparable(right)
    assert is_correct(left, [right], False)
    assert is_correct(right, [left], True)
    assert words_of_cell(f"{left}, {right}") == (" ".join(left.split()),)
    assert normalised(left) == normalised(right)


def test_other_words_are_not() -> None:
    for left, right in (("cant", "can't"), ("resort", "re-sort"), ("café", "cafe"), ("ї", "и")):
        assert not is_correct(left, [right], False)


@given(st.text(max_size=12))
def test_equality_does_not_depend_on_how_often_it_is_asked(text: str) -> None:
    assert comparable(comparable(text)) == comparable(text)


def lexicon_of(*rows: tuple[str, str]) -> AnswerWords:
    concepts = [
        Concept(en, "noun", "", "", {"en": (en,), "de": tuple(de.split("|"))}) for en, de in rows
    ]
    return AnswerWords(Lexicon(tuple(concepts), 0), {"en": True, "de": True})


def test_copyable_is_what_a_copied_answer_is_scored_as() -> None:
    rows = [("hand", "Hand"), ("finger", "Finger"), ("sun", "Sonne"), ("sofa", "Couch|Sofa")]
    words = lexicon_of(*rows)
    found = {en: words.copyable(en, ("en", "de")) for en, _ in rows}
    assert found == {"hand": True, "finger": True, "sun": False, "sofa": True}
    for en, german in rows:
        assert found[en] == is_correct(en, german.split("|"), True)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("casa (hogar, edificio)", ("casa",)),
        ("дерево (живое/сухое)", ("дерево",)),
        ("go (walk (on foot))", ("go",)),
        ("go [walk (on, foot)] / walk", ("go", "walk")),
        ("家（いえ、建物）、住宅", ("家", "住宅")),
        ("بيت (دار، سكن)، منزل", ("بيت", "منزل")),
        ("घर {मकान, भवन}; गृह", ("घर", "गृह")),
        ("casa (hogar, edificio", ("casa",)),
        ("hogar) casa", ("hogar casa",)),
        ("*sun, ~star~", ("sun", "star")),
        ("ser ~ estar", ("ser", "estar")),
        ("¿Qué?", ("Qué",)),
        ("water*²", ("water",)),
        ("-ción", ("ción",)),
        ("'casa'", ("casa",)),
        ("po'", ("po'",)),
        ("ʻāina", ("ʻāina",)),
        ("ng’ombe", ("ng’ombe",)),
        ("well-being", ("well-being",)),
        ("Hand, hand", ("Hand",)),
        ("-", ()),
        ("— ", ()),
        ("?", ()),
        ("(none)", ()),
        ("", ()),
    ],
)
def test_words_of_published_cells(cell: str, words: tuple[str, ...]) -> None:
    assert words_of_cell(cell) == words


@given(st.text(alphabet="ab ()[]（）,;、*~-'", max_size=20))
def test_no_word_has_a_bracket_a_separator_or_a_mark(cell: str) -> None:
    for word in words_of_cell(cell):
        assert not set(word) & set("()[]（）,;、*~")
        assert word[0] in "ab'"
        assert word[-1] in "ab'"
