import random
import re
from itertools import islice

import pytest

from glossogenesis.corpora.demo.world import check_same_language, same_language_documents
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.exceptions import StudyError

CONCEPTS = [
    Concept(f"c{n}", "noun", "animal", "", {"en": (f"en{n}",), "ru": (f"ru{n}",)})
    for n in range(12)
]
ENDONYMS = {"en": "English", "ru": "Русский"}


def drawn(number, seed=0, **shares):
    rng = random.Random(seed)
    documents = same_language_documents(rng, CONCEPTS, "ru", ENDONYMS, **shares)
    return list(islice(documents, number))


def test_documents_are_in_one_language():
    for text in drawn(200, monolingual=0.5, glossary=0.3):
        assert "English" not in text
        assert not re.search(r"\ben\d", text)


def test_lines_of_words_are_copies():
    (glossary,) = drawn(1, monolingual=0, glossary=1)
    assert glossary.startswith("Русский Русский\n")
    assert all(len(set(line.split())) == 1 for line in glossary.splitlines())
    (lines,) = drawn(1, monolingual=0, glossary=0)
    for line in lines.splitlines():
        shown, answer = re.fullmatch(r'Русский: "(.*)" - Русский: "(.*)"', line).groups()
        assert shown == answer


def test_kinds_have_their_shares():
    texts = drawn(1000, monolingual=0.5, glossary=0.3)
    running = sum("Русский" not in text for text in texts)
    glossaries = sum(text.startswith("Русский Русский\n") for text in texts)
    assert running == pytest.approx(500, abs=60)
    assert glossaries == pytest.approx(150, abs=40)


def test_equal_seeds_give_equal_documents():
    shares = {"monolingual": 0.5, "glossary": 0.3}
    assert drawn(20, **shares) == drawn(20, **shares) != drawn(20, seed=1, **shares)


def test_what_cannot_be_written_is_said_at_once():
    with pytest.raises(StudyError, match="at least 10 concepts, and the lexicon gives 9"):
        check_same_language(CONCEPTS[:9], ["en"], 0.5)
    with pytest.raises(StudyError, match="no sentences in language 'sw'"):
        check_same_language(CONCEPTS, ["en", "sw"], 0.5)
    check_same_language(CONCEPTS, ["en", "sw"], 0)
