import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from glossogenesis.corpora.posts import KINDS, Spelling, read_spellings, span_of
from glossogenesis.exceptions import StudyError

SHIPPED = Path(__file__).parents[3] / "resources" / "spelling_variants" / "ja.tsv"
HEADER = "concept\tkind\tvariant\tsentence"
CAMERA = ("camera\tkanji\t写真機\t古い写真機です。", "camera\tborrowed\tカメラ\tカメラを買う。")


@pytest.fixture
def read(tmp_path):
    """Read a table of the given lines."""

    def of(*lines):
        path = tmp_path / "spellings.tsv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_spellings(path)

    return of


def test_spellings_are_read_in_order_without_remarks(read):
    assert read("# remark", HEADER, CAMERA[0], "", "# another", CAMERA[1]) == (
        Spelling("camera", "kanji", "写真機", "古い写真機です。"),
        Spelling("camera", "borrowed", "カメラ", "カメラを買う。"),
    )


def test_columns_may_stand_in_another_order(read):
    swapped = ["\t".join(reversed(line.split("\t"))) for line in (HEADER, *CAMERA)]
    assert read(*swapped) == read(HEADER, *CAMERA)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["concept\tvariant\tsentence"], "names the columns concept, variant, sentence"),
        ([], r"names the columns \(none\)"),
        ([HEADER], "holds no spelling"),
        ([HEADER, CAMERA[0]], "concept 'camera' has one spelling"),
        ([HEADER, "camera\tkanji\t写真機"], "line 2: 3 filled cells for 4 columns"),
        ([HEADER, "camera\tkanji\t\t写真機です。"], "line 2: 3 filled cells for 4 columns"),
        ([HEADER, "camera\tromaji\tkamera\tkamera."], "line 2: unknown kind 'romaji'"),
        ([HEADER, "camera\tkanji\t写真機\t写真です。"], "line 2: '写真機' stands 0 times"),
        ([HEADER, "dog\tkanji\t犬\t犬と犬"], "line 2: '犬' stands 2 times"),
        ([HEADER, *CAMERA, CAMERA[1]], "line 4: the spelling 'カメラ' stands in .*, line 3 too"),
        ([HEADER, "a\tkanji\t犬\t犬と猫", "a\tkanji\t猫\t犬と猫"],
         "line 3: the sentence '犬と猫' stands in .*, line 2 too"),
    ],
)  # fmt: skip
def test_a_bad_table_is_named(read, lines, message):
    with pytest.raises(StudyError, match=message) as caught:
        read(*lines)
    assert "spellings.tsv" in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(StudyError, match="no such table of spellings"):
        read_spellings(tmp_path / "spellings.tsv")


@pytest.mark.parametrize(
    ("text", "variant", "span"),
    [
        ("カメラを買う", "カメラ", (0, 3)),
        ("古いカメラ", "カメラ", (2, 5)),
        ("x PC y", "PC", (2, 4)),
    ],
)
def test_a_span_covers_the_spelling(text, variant, span):
    assert span_of(text, variant) == span
    assert text[slice(*span)] == variant


@pytest.mark.parametrize("variant", ["", "犬", "写真"])
def test_a_spelling_that_stands_elsewhere_or_twice_has_no_span(variant):
    with pytest.raises(StudyError, match="exactly once"):
        span_of("写真機と写真", variant)


def test_the_shipped_table_has_three_to_five_spellings_of_sixty_concepts():
    spellings = read_spellings(SHIPPED)
    counts = Counter(spelling.concept for spelling in spellings)
    assert len(counts) >= 60
    assert set(counts.values()) <= {3, 4, 5}
    assert {spelling.kind for spelling in spellings} == set(KINDS)


def test_shipped_spellings_are_of_their_kind():
    scripts = {"hiragana": "HIRAGANA", "katakana": "KATAKANA", "borrowed": "KATAKANA"}
    for spelling in read_spellings(SHIPPED):
        found = {unicodedata.name(character).split()[0] for character in spelling.variant}
        found -= {"KATAKANA-HIRAGANA"}  # the mark of a long vowel
        if spelling.kind in scripts:
            assert found == {scripts[spelling.kind]}, spelling
        elif spelling.kind == "kanji":
            assert "CJK" in found, spelling


def test_a_shipped_spelling_belongs_to_one_concept_and_its_sentence_holds_no_other_of_it():
    spellings = read_spellings(SHIPPED)
    assert len({spelling.variant for spelling in spellings}) == len(spellings)
    for spelling in spellings:
        for other in spellings:
            if other.concept == spelling.concept and other.variant not in spelling.variant:
                assert other.variant not in spelling.sentence, spelling


def test_shipped_sentences_are_composed_and_about_as_polite_and_long_whatever_the_kind():
    polite = ("ます。", "です。", "ました。", "ません。", "ください。", "でした。")
    lengths, politeness = {}, {}
    for spelling in read_spellings(SHIPPED):
        assert unicodedata.is_normalized("NFC", spelling.sentence)
        rest = len(spelling.sentence) - len(spelling.variant)
        lengths.setdefault(spelling.kind, []).append(rest)
        politeness.setdefault(spelling.kind, []).append(spelling.sentence.endswith(polite))
    for kind in KINDS:
        assert sum(lengths[kind]) / len(lengths[kind]) == pytest.approx(13.6, abs=0.5)
        assert 0.4 <= sum(politeness[kind]) / len(politeness[kind]) <= 0.6
