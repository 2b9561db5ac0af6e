"""Scoring against answers whose class is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossogenesis.concepts.scoring import (
    OUTCOMES,
    Outcome,
    Words,
    answer_of,
    classify_outcome,
    is_correct,
)


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        ('cat"\nEspañol: "perro"', "cat"),
        ("cat", "cat"),
        (' cat "', "cat"),
        ('"', ""),
        ("", ""),
        ("absence of desire", "absence of desire"),
        ('«cat» "x"', "«cat»"),
    ],
)
def test_answer_ends_at_the_first_closing_quote(generated: str, answer: str) -> None:
    assert answer_of(generated) == answer


@pytest.mark.parametrize(
    ("answer", "accepted", "spaced", "correct"),
    [
        ("absence of desire", ["absence"], True, True),  # the paper's example of a hit
        ("organizer", ["organ"], True, False),  # and of a miss
        ("organ", ["organ"], True, True),
        ("organ.", ["organ"], True, True),
        ("organ's", ["organ"], True, True),
        ("organ2", ["organ"], True, False),
        ("organ_x", ["organ"], True, False),
        ("an organ", ["organ"], True, False),
        ("Katze", ["katze"], True, True),
        ("STRASSE", ["straße"], True, True),
        ("cafe\u0301", ["café"], True, True),  # decomposed against composed
        ("cafe\u0301", ["cafe"], True, False),  # an accent continues the word
        ("q\u0303", ["q"], True, False),  # a mark with no composed form
        ("ｃａｔ", ["cat"], True, True),  # full width
        ("house", ["home", "house"], True, True),
        ("ice cream", ["ice cream"], True, True),
        ("猫", ["猫"], False, True),
        ("猫 が", ["猫"], False, False),
        ("猫科", ["猫"], False, False),
        ("ﾈｺ", ["ネコ"], False, True),  # half width
        ("", ["cat"], True, False),
        ("cat", [], True, False),
    ],
)
def test_correct_answers(answer: str, accepted: list[str], spaced: bool, correct: bool) -> None:
    assert is_correct(answer, accepted, spaced) is correct


def test_an_empty_word_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        is_correct("cat", ["dog", " "], True)
    with pytest.raises(ValueError, match="at least one word"):
        Words((), True)


HOUSE_EN = Words(("house", "home"), True)
HOUSE_ES = Words(("casa", "hogar"), True)
HOUSE_JA = Words(("家",), False)
DOG_EN = Words(("dog", "hound"), True)
DOG_ES = Words(("perro",), True)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("house", "correct"),
        ("House of cards", "correct"),
        ("home", "synonym"),
        ("perro", "copied_input"),
        ("casa", "copied_input"),
        ("dog", "kept_target"),
        ("hound", "kept_target"),
        ("家", "source_other_language"),
        ("hogar", "source_other_language"),  # a word of the input language that no prompt shows
        ("家族", "other"),
        ("cat", "other"),
        ("", "other"),
    ],
)
def test_outcomes_of_a_patched_run_from_spanish_to_english(answer: str, outcome: Outcome) -> None:
    found = classify_outcome(
        answer,
        expected=HOUSE_EN,
        copied=[Words(("perro",), True), Words(("casa",), True)],
        kept=DOG_EN,
        other_languages=[HOUSE_ES, HOUSE_JA],
    )
    assert found == outcome


def test_the_target_word_is_no_class_of_its_own_in_an_unpatched_run() -> None:
    found = classify_outcome(
        "dog", expected=DOG_EN, copied=[DOG_ES], kept=None, other_languages=[DOG_ES]
    )
    assert found == "correct"


def test_a_homograph_counts_for_the_first_class_that_holds() -> None:
    animal = Words(("animal",), True)
    assert (
        classify_outcome(
            "animal", expected=animal, copied=[animal], kept=animal, other_languages=[animal]
        )
        == "correct"
    )
    hotel = Words(("hotel",), True)
    assert (
        classify_outcome("hotel", expected=animal, copied=[hotel], kept=hotel, other_languages=[])
        == "copied_input"
    )


some_words = st.lists(st.sampled_from(["a", "ab", "a b", "é", "猫", "ß", "A"]), min_size=1).map(
    tuple
)
some_answers = st.one_of(
    st.text(max_size=8), st.sampled_from(["a", "a b", "ab", "É", "ss", "a-b", "猫", "b"])
)


@given(some_answers, some_words, some_words, some_words, some_words, st.booleans(), st.booleans())
def test_every_answer_has_one_class_and_correctness_agrees(
    answer: str,
    expected: tuple[str, ...],
    copied: tuple[str, ...],
    kept: tuple[str, ...],
    other: tuple[str, ...],
    spaced: bool,
    patched: bool,
) -> None:
    words = Words(expected, spaced)
    found = classify_outcome(
        answer,
        expected=words,
        copied=[Words(copied[:1], True)],
        kept=Words(kept, spaced) if patched else None,
        other_languages=[Words(other, True)],
    )
    assert found in OUTCOMES
    assert (found in ("correct", "synonym")) == is_correct(answer, expected, spaced)
    if found == "kept_target":
        assert patched
        assert not is_correct(answer, copied[:1], True)
    if found == "other":
        assert not is_correct(answer, other, True)


@given(st.text(max_size=20))
def test_an_answer_holds_no_quote_and_answers_itself(generated: str) -> None:
    answer = answer_of(generated)
    assert '"' not in answer
    assert answer_of(answer) == answer
