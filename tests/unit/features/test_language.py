"""Languages of activating tokens and of features, by each rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glossogenesis.corpora.token_languages import has_letter
from glossogenesis.exceptions import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.features.firing import TOKEN_IDS
from glossogenesis.features.language import (
    LanguageShares,
    check_languages_are_distinct,
    label_features,
    label_names,
    language_shares,
    lettered,
    published_class,
    token_languages,
)
from glossogenesis.study.features import LanguageBy
from support.planted_features import SCRIPTS, VOCABULARY, write_corpus

NUMBER = {text: token for token, (text, _) in enumerate(VOCABULARY)}


def examples_at(places: list[list[tuple[int, int]]]) -> Examples:
    """Contexts and columns of each feature's examples."""
    room = max(map(len, places))
    tokens = np.zeros((len(places), room), TOKEN_IDS)
    for feature, of_feature in enumerate(places):
        for number, place in enumerate(of_feature):
            tokens["context"][feature, number], tokens["column"][feature, number] = place
    counts = np.array([len(of_feature) for of_feature in places])
    return Examples(tokens, np.ones((len(places), room), np.float32), counts, counts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" cat", 0),
        ("it's (so)", 0),
        (",", 0),
        ("12", -1),
        ("３", -1),
        ("猫", 1),
        ("、", 1),
        ("%", 1),
        ("café", 1),
        ("a1", 1),
        ("  ", 1),
        ("", 1),
    ],
)
def test_classes_of_the_published_code(text: str, expected: int) -> None:
    assert published_class(text, latin=0, other=1) == expected


def test_digits_take_the_token_before_them(tmp_path: Path) -> None:
    cat, dog, neko, seven = (NUMBER[text] for text in (" cat", " dog", "猫", "7"))
    corpus = write_corpus(
        tmp_path, [[seven, cat, seven, seven, neko, seven], [neko, seven], [seven, dog]]
    )
    places = [(0, 0), (0, 1), (0, 3), (0, 5), (1, 1), (2, 0), (2, 1)]
    found = token_languages("paper", examples_at([places]), corpus, SCRIPTS)
    assert found.tolist() == [255, 0, 0, 1, 1, 255, 0]


def test_the_published_rule_knows_which_language_is_latin(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, [[1, 5]], languages=("ja", "en"))
    found = token_languages("paper", examples_at([[(0, 0), (0, 1)]]), corpus, SCRIPTS)
    assert found.tolist() == [1, 0]


def test_rules_that_cannot_tell_languages_apart(tmp_path: Path) -> None:
    scripts = {"en": "Latin", "fi": "Latin", "ja": "Japanese"}
    three = write_corpus(
        tmp_path / "3", [[1]], languages=("en", "fi", "ja"), known_by_script=("ja",)
    )
    check_languages_are_distinct("document", three, scripts)
    with pytest.raises(StudyError, match=r"script of en, fi is shared .* `features.language.by: d"):
        check_languages_are_distinct("script", three, scripts)
    with pytest.raises(StudyError, match=r"takes two languages.*en, fi, ja; set .*document"):
        check_languages_are_distinct("paper", three, scripts)
    two = write_corpus(tmp_path / "2", [[1]], languages=("ru", "ja"))
    with pytest.raises(StudyError, match="one of them written in Latin letters"):
        check_languages_are_distinct("paper", two, {"ru": "Cyrillic", "ja": "Japanese"})


def shares_of(
    tokens: list[list[str]], by: LanguageBy = "script", languages: list[list[int]] | None = None
) -> LanguageShares:
    """Shares of features whose examples have these activating tokens."""
    examples = examples_at([[(0, 0)] * len(of_feature) for of_feature in tokens])
    flat = [token for of_feature in tokens for token in of_feature]
    examples.tokens["token_id"][examples._filled] = [NUMBER[token] for token in flat]
    known = (
        [VOCABULARY[NUMBER[token]][1] for token in flat]
        if languages is None
        else [language for of_feature in languages for language in of_feature]
    )
    letters = np.array([has_letter(token) for token in flat])
    return language_shares(examples, np.array(known, np.uint8), letters, 2, by=by)


def labels_of(shares: LanguageShares, **changes: float) -> list[str]:
    rule = {"share": 0.9, "bilingual_share": 0.1, "symbol_share": 0.5} | changes
    labels = label_features(shares, np.ones(len(shares.symbols), np.int64), **rule)
    return [label_names(("en", "ja"))[label] for label in labels]


def test_only_examples_with_letters_decide() -> None:
    shares = shares_of([[" cat", " dog", "猫", ","], [",", ",", "7", "猫"], []])
    assert shares.by_language[0].tolist() == [2 / 3, 1 / 3]
    assert shares.by_language[1].tolist() == [0.0, 1.0]
    assert shares.symbols[:2].tolist() == [0.25, 0.75]
    assert np.isnan(shares.by_language[2]).all()
    assert labels_of(shares) == ["bilingual", "symbol", "unlabelled"]
    assert labels_of(shares, symbol_share=0.75) == ["bilingual", "ja", "unlabelled"]


def test_letters_of_no_language_count_in_the_denominator() -> None:
    shares = shares_of([[" cat"] * 4], languages=[[0, 0, 1, 255]])
    assert shares.by_language[0].tolist() == [0.5, 0.25]


def test_the_published_rule_lets_symbols_decide() -> None:
    languages = [[1, 0, 1, 1]]
    shares = shares_of([["、", ",", "、", "、"]], by="paper", languages=languages)
    assert shares.by_language[0].tolist() == [0.25, 0.75]
    assert labels_of(shares) == ["mixed"]
    assert labels_of(shares_of([["、", ",", "、", "、"]], languages=languages)) == ["symbol"]


def test_bilingual_takes_two_tokens_of_two_languages_with_enough_examples() -> None:
    names = [[" cat"] * 10, [" cat"] * 5 + [" dog"] * 5, [" cat"] * 10]
    documents = [[0] * 5 + [1] * 5, [0] * 5 + [1] * 5, [0] * 10]
    shares = shares_of(names, by="document", languages=documents)
    # One token in documents of both languages, such as a name, is no word of theirs.
    assert labels_of(shares) == ["mixed", "bilingual", "en"]
    assert labels_of(shares_of([[" cat"] * 8 + ["猫"] * 2]), bilingual_share=0.2) == ["bilingual"]
    assert labels_of(shares_of([[" cat"] * 8 + ["猫"] * 2]), bilingual_share=0.3) == ["mixed"]
    # The other tokens are of a third language.
    third = shares_of([[" cat"] * 8 + [" dog"] * 2], languages=[[0, 0, 0, 0, 1, 1, 1, 1, 255, 255]])
    assert labels_of(third) == ["mixed"]


def test_labels() -> None:
    by_language = np.array([[0.91, 0.05], [0.1, 0.9], [0.5, 0.04], [np.nan] * 2, [np.nan] * 2])
    symbols = np.array([0.1, 0.0, 0.5, np.nan, np.nan])
    shares = LanguageShares(by_language, symbols, np.full((5, 2), 2))
    labels = label_features(
        shares,
        firings=np.array([60, 60, 60, 3, 0]),
        share=0.9,
        bilingual_share=0.1,
        symbol_share=0.5,
    )
    names = [label_names(("en", "ja"))[label] for label in labels]
    # A share that equals the setting is not enough for a language, nor for symbols.
    assert names == ["en", "bilingual", "mixed", "unlabelled", "dead"]


def test_a_single_language_has_no_bilingual_features() -> None:
    shares = LanguageShares(np.array([[0.5], [1.0]]), np.zeros(2), np.full((2, 1), 3))
    labels = label_features(
        shares, np.ones(2, np.int64), share=0.9, bilingual_share=0.1, symbol_share=0.5
    )
    assert [label_names(["en"])[label] for label in labels] == ["mixed", "en"]


def test_parts_of_characters_are_letters_where_the_character_is(tmp_path: Path) -> None:
    # "к" and "—" have bytes that tokens split; "é" stands in one token with a part of "—".
    first, second = "к".encode()[:1], "к".encode()[1:]
    dash = "—".encode()
    pieces = [b"", first, second, dash[:1], dash[1:], "é".encode() + dash[:1], b":", b" 7", b"a:"]
    contexts = [[1, 2, 3, 4, 5, 4, 6, 7, 8], [1, 2]]
    corpus = write_corpus(tmp_path, contexts, vocabulary=pieces)
    places = [(0, column) for column in range(9)] + [(1, 1), (1, 0)]
    examples = examples_at([places])
    examples.tokens["token_id"][0] = [contexts[row][column] for row, column in places]
    expected = [True, True, False, False, True, False, False, False, True, True, True]
    assert lettered(examples, corpus).tolist() == expected
