"""Languages of activating tokens and of features, by each rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glossogenesis.errors import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.features.language import (
    check_languages_can_be_told,
    label_features,
    label_names,
    language_shares,
    published_class,
    token_languages,
)
from glossogenesis.features.spool import TOKEN_IDS
from planted_features import SCRIPTS, VOCABULARY, write_corpus

NUMBER = {text: token for token, (text, _) in enumerate(VOCABULARY)}


def examples_at(places: list[list[tuple[int, int]]]) -> Examples:
    """Contexts and columns of each feature's examples."""
    room = max(map(len, places))
    tokens = np.zeros((len(places), room), TOKEN_IDS)
    for feature, of_feature in enumerate(places):
        for number, place in enumerate(of_feature):
            tokens["context"][feature, number], tokens["column"][feature, number] = place
    counts = np.array([len(of_feature) for of_feature in places])
    return Examples(tokens, np.ones((len(places), room), np.float32), counts)


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
        tmp_path / "3", [[1]], languages=("en", "fi", "ja"), told_by_script=("ja",)
    )
    check_languages_can_be_told("document", three, scripts)
    with pytest.raises(StudyError, match=r"script of en, fi is shared .* `features.language.by: d"):
        check_languages_can_be_told("script", three, scripts)
    with pytest.raises(StudyError, match=r"takes two languages.*en, fi, ja; set .*document"):
        check_languages_can_be_told("paper", three, scripts)
    two = write_corpus(tmp_path / "2", [[1]], languages=("ru", "ja"))
    with pytest.raises(StudyError, match="one of them written in Latin letters"):
        check_languages_can_be_told("paper", two, {"ru": "Cyrillic", "ja": "Japanese"})


def test_shares_count_all_examples() -> None:
    examples = examples_at([[(0, 0)] * 4, [], [(0, 0)] * 2])
    shares = language_shares(examples, np.array([0, 0, 1, 255, 255, 255], np.uint8), 2)
    assert shares[0].tolist() == [0.5, 0.25]
    assert np.isnan(shares[1]).all()
    assert shares[2].tolist() == [0.0, 0.0]


def test_labels() -> None:
    shares = np.array([[0.91, 0.05], [0.1, 0.9], [0.5, 0.5], [1, 0], [np.nan] * 2, [np.nan] * 2])
    labels = label_features(
        shares,
        examples=np.array([50, 50, 50, 4, 0, 0]),
        firings=np.array([60, 60, 60, 60, 3, 0]),
        share=0.9,
        minimum_examples=5,
    )
    names = [label_names(("en", "ja"))[label] for label in labels]
    # A share that equals the setting is not enough.
    assert names == ["en", "mixed", "mixed", "unlabelled", "unlabelled", "dead"]
