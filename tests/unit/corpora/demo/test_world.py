import random
import re
from itertools import islice

import pytest

from glossogenesis.corpora.demo.world import (
    CATEGORY_NAMES,
    ENTRIES,
    TEMPLATES,
    PhaseMixture,
    check_mixture,
    check_templates,
    demo_documents,
    group_by_category,
    monolingual_document,
    translation_document,
)
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.exceptions import StudyError

LANGUAGES = ("en", "es", "ru", "fi", "ja", "sw")
ENDONYMS = {
    "en": "English",
    "es": "Español",
    "ru": "Русский",
    "fi": "Suomi",
    "ja": "日本語",
    "sw": "Kiswahili",
}
LINE = re.compile(r'(\w+): "([^"]+)" - (\w+): "([^"]+)"')


def concept(number: int) -> Concept:
    words = {code: (f"{code}word{number}",) for code in LANGUAGES}
    if number == 0:
        words["es"] = ("esword0", "synonym")
    if number == 1:
        # A word of two languages, and of two concepts of one of them.
        words |= {"es": ("homograph",), "fi": ("homograph",), "ru": ("ruword2",)}
    return Concept(f"concept{number}", "noun", ("animal", "food")[number % 2], "thing", words)


CONCEPTS = tuple(concept(number) for number in range(12))
SHARES = {"en": 0.4, "es": 0.3, "ru": 0.1, "fi": 0.1, "ja": 0.1, "sw": 0.0}


def mixture(**changes) -> PhaseMixture:
    settings = {
        "shares": SHARES,
        "pivot": "en",
        "pivot_only": True,
        "monolingual": 0.3,
        "glossary": 0.0,
        "copying": 0.25,
        "copying_languages": ("en",),
        "lines": (4, 6),
        "synonyms": 0.3,
    }
    return PhaseMixture(**{**settings, **changes})


def documents(count: int, seed: int = 0, **changes):
    stream = demo_documents(mixture(**changes), CONCEPTS, ENDONYMS, random.Random(seed))
    return list(islice(stream, count))


def pair_of(document):
    first, second = LINE.match(document.text).group(1, 3)
    names = {name: code for code, name in ENDONYMS.items()}
    return names[first], names[second]


def test_equal_seeds_give_equal_documents_and_others_do_not():
    assert documents(50) == documents(50)
    assert documents(50) != documents(50, seed=1)


def test_every_line_is_a_prompt_line_with_words_of_one_concept():
    for document in documents(300, monolingual=0.0, pivot_only=False):
        source, target = pair_of(document)
        lines = document.text.splitlines()
        assert 4 <= len(lines) <= 6
        used = []
        for line in lines:
            name, shown, name_out, answer = LINE.fullmatch(line).groups()
            assert (name, name_out) == (ENDONYMS[source], ENDONYMS[target])
            meant = [
                entry
                for entry in CONCEPTS
                if shown in entry.words[source]
                and (answer == shown if source == target else answer == entry.word(target))
            ]
            assert meant
            used.append(shown)
        assert document.languages == tuple(dict.fromkeys((source, target)))


def test_pivot_phases_hold_only_pairs_with_the_pivot():
    pairs = {pair_of(document) for document in documents(500, monolingual=0.0)}
    assert pairs == {("en", "en")} | {
        pair for code in ("es", "ru", "fi", "ja") for pair in (("en", code), (code, "en"))
    }


def test_all_pairs_occur_where_asked():
    drawn = documents(
        2000, monolingual=0.0, pivot_only=False, copying_languages=("en", "es", "ru", "fi", "ja")
    )
    assert len({pair_of(document) for document in drawn}) == 25


def test_the_unseen_language_occurs_nowhere():
    for document in documents(1000, pivot_only=False):
        assert "sw" not in document.languages
        assert "Kiswahili" not in document.text
        assert "swword" not in document.text


def test_shares_hold():
    drawn = documents(6000)
    running = [document for document in drawn if not LINE.match(document.text)]
    assert len(running) / len(drawn) == pytest.approx(0.3, abs=0.02)
    for language, share in SHARES.items():
        found = sum(document.languages == (language,) for document in running) / len(running)
        assert found == pytest.approx(share, abs=0.03)
    pairs = [pair_of(document) for document in drawn if LINE.match(document.text)]
    copying = sum(first == second for first, second in pairs) / len(pairs)
    assert copying == pytest.approx(0.25, abs=0.02)
    # In translation the pivot is always there; the other language is drawn by the shares left.
    others = [pair for pair in pairs if pair[0] != pair[1]]
    assert sum("es" in pair for pair in others) / len(others) == pytest.approx(0.5, abs=0.03)
    assert sum(pair[0] == "en" for pair in others) / len(others) == pytest.approx(0.5, abs=0.03)


def test_synonyms_and_homographs_occur():
    text = "".join(document.text for document in documents(1500, synonyms=0.2))
    usual, synonym = (len(re.findall(rf"\b{word}\b", text)) for word in ("esword0", "synonym"))
    assert 0.1 < synonym / (usual + synonym) < 0.3
    rng = random.Random(0)
    for code in ("es", "fi"):
        found = translation_document(rng, CONCEPTS, (code, "en"), ENDONYMS, 12, 0.0)
        assert f'{ENDONYMS[code]}: "homograph" - English: "enword1"' in found.text


def test_glossaries_put_translations_directly_after_words():
    drawn = documents(800, monolingual=0.2, glossary=0.5)
    glossaries = [
        document
        for document in drawn
        if document.text.split("\n")[0].count(" ") == 1
        and document.text.split(" ")[0] in ENDONYMS.values()
    ]
    assert len(glossaries) / len(drawn) == pytest.approx(0.4, abs=0.05)
    codes = {name: code for code, name in ENDONYMS.items()}
    for document in glossaries:
        header, *lines = document.text.splitlines()
        source, target = (codes[name] for name in header.split(" "))
        assert "en" in (source, target)
        assert len(set(lines)) == len(lines) == ENTRIES
        for line in lines:
            shown, answer = line.split(" ")
            assert any(
                shown in entry.words[source]
                and answer == (shown if source == target else entry.word(target))
                for entry in CONCEPTS
            )


def test_running_text_keeps_to_one_category_and_language():
    groups = group_by_category(CONCEPTS)
    for language in ("en", "es", "ru", "fi", "ja"):
        rng = random.Random(1)
        text = monolingual_document(rng, groups, language, 14, 0.0).text
        numbers = {int(number) for number in re.findall(rf"{language}word(\d+)", text)}
        assert len({CONCEPTS[number].category for number in numbers}) == 1
        assert '"' not in text
        assert "{" not in text


def test_every_language_has_a_dozen_sentences_with_legal_slots():
    for language, templates in TEMPLATES.items():
        assert len(set(templates)) == len(templates) >= 12, language
        for template in templates:
            assert set(re.findall(r"{(.*?)}", template)) <= {"a", "b", "c", "x"}
            assert '"' not in template
    for category, names in CATEGORY_NAMES.items():
        assert set(names) == set(TEMPLATES), category


def test_a_lexicon_without_categories_has_running_text():
    plain = [Concept(entry.name, "noun", "", "", entry.words) for entry in CONCEPTS]
    text = monolingual_document(random.Random(0), group_by_category(plain), "en", 5, 0.0).text
    assert "enword" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": {"en": 1.0, "es": 0.0}}, "two languages"),
        ({"shares": {"es": 0.5, "ru": 0.5}}, "pairs with 'en'"),
        ({"copying_languages": ()}, "copying"),
        ({"lines": (4, 20)}, "20 lines"),
        ({"monolingual": 1.0, "shares": {"en": 0.5, "sw": 0.5}}, "no sentences"),
        ({"shares": {"en": 0.5, "sw": 0.5}}, "'sw'"),
    ],
)
def test_impossible_phases_are_refused(changes, message):
    with pytest.raises(StudyError, match=message):
        check_mixture(mixture(**changes), CONCEPTS, 1)


def test_too_few_concepts_are_refused():
    with pytest.raises(StudyError, match="at least 3 concepts"):
        group_by_category(CONCEPTS[:2])


def test_known_languages_pass():
    check_templates(tuple(TEMPLATES))
