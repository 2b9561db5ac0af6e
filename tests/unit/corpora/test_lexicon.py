"""Lexicons in three formats: what is read, what is left out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glossogenesis.corpora.lexicon import Concept, read_lexicon
from glossogenesis.exceptions import StudyError
from support.tiny_study import tiny_lexicon

OWN = """\
concept\tpos\tcategory\thypernym\ten\tes\tnotes
cat\tnoun\tanimal\tanimal\tcat|pussycat\tgato\tx
run\tverb\tmotion\tmove\trun\tcorrer\t
sea\tnoun\tnature\twater\tsea (body of water)|ocean|sea\tmar
"""

# The columns of the published translation.csv, in its order; the rows are made up.
MULTISIMLEX = """\
ID,ENG 1,ENG 2,PoS,ARA 1,ARA 2,CMN 1,CMN 2,CYM 1,CYM 2,EST 1,EST 2,FIN 1,FIN 2,FRA 1,FRA 2,HEB 1,HEB 2,POL 1,POL 2,RUS 1,RUS 2,SPA 1,SPA 2,SWA 1,SWA 2,YUE 1,YUE 2,scores 1,scores 2,translation 1,translation 2
1,arm,muscle,nouns,,,手臂,肌肉,braich,cyhyr,käsi,lihas,käsivarsi,lihas,bras,muscle,,,ramię,mięsień,рука,мускул,brazo,músculo,mkono,misuli,手臂,肌肉,arm,muscle,arm,muscle
2,arm,leg,nouns,,,胳膊,腿,braich,coes,käsi,jalg,käsi,jalka,bras,jambe,,,ramię,noga,рука,нога,brazo,pierna,mkono,mguu,手臂,腳,arm,leg,arm,leg
3,run,fish,verbs,,,跑,捕鱼,rhedeg,pysgota,jooksma,kalastama,juosta,kalastaa,courir,pêcher,,,biec,łowić,бежать,рыбачить,correr,pescar,kimbia,vua,跑,捕魚,run,fish,run,fish
4,fish,wife,nouns,,,鱼,妻子,pysgodyn,gwraig,kala,abikaasa (naine),kala,vaimo,poisson,femme,,,ryba,żona,рыба,жена,pez,mujer,samaki,mke,魚,老婆,fish,wife,fish,wife
5,"hat, old",key,nouns,,,帽子,钥匙,het,,müts,võti,hattu,avain,chapeau,clé,,,kapelusz,klucz,шляпа,ключ,sombrero,llave,kofia,ufunguo,帽,鎖匙,hat,key,hat,key
"""  # noqa: E501  # the published header is one line

CONCEPTICON = """\
ID\tNUMBER\tENGLISH\tCONCEPTICON_ID\tCONCEPTICON_GLOSS\tFINNISH_AOA\tFINNISH\tSPANISH\tRUSSIAN
L-1\t1\tant\t587\tANT\t2.0\tmuurahainen\thormiga\tмуравей
L-2\t2\tcouch\t\t\t2.1\tsohva, divaani\tsofá/diván\tдиван
L-3\t3\tplane\t1597\tAIRPLANE\t\t-\tavión\tсамолёт
L-4\t4\taeroplane\t1597\tAIRPLANE\t3.0\tlentokone\tavión\tсамолёт
L-5\t5\tgnome\t\t\t3.0\ttonttu\t-\tгном
"""


def read(folder: Path, text: str, **options: Any) -> tuple[tuple[Concept, ...], int]:
    path = folder / "lexicon"
    path.write_text(text, encoding="utf-8")
    lexicon = read_lexicon(path, **options)
    return lexicon.concepts, lexicon.left_out


def test_own_format(tmp_path: Path) -> None:
    concepts, left_out = read(tmp_path, OWN, format="tsv", languages=["en", "es"])
    assert left_out == 0
    assert concepts == (
        Concept("cat", "noun", "animal", "animal", {"en": ("cat", "pussycat"), "es": ("gato",)}),
        Concept("sea", "noun", "nature", "water", {"en": ("sea", "ocean"), "es": ("mar",)}),
    )
    assert concepts[0].word("en") == "cat"


def test_parts_of_speech_and_limit(tmp_path: Path) -> None:
    options = {"format": "tsv", "languages": ["es"], "pos": ["noun", "verb"]}
    assert [c.name for c in read(tmp_path, OWN, **options)[0]] == ["cat", "run", "sea"]
    assert [c.name for c in read(tmp_path, OWN, limit=2, **options)[0]] == ["cat", "run"]
    with pytest.raises(StudyError, match=r"3 usable concepts, but `lexicon.limit` asks for 4"):
        read(tmp_path, OWN, limit=4, **options)
    with pytest.raises(
        StudyError, match=r"no concept with part of speech adverb; there are noun \(2\), verb \(1\)"
    ):
        read(tmp_path, OWN, format="tsv", languages=["es"], pos=["adverb"])


def test_columns_by_other_names(tmp_path: Path) -> None:
    options = {"format": "tsv", "languages": ["en", "es"], "columns": {"es": "Spanish"}}
    text = OWN.replace("\tes\t", "\tSpanish\t")
    assert read(tmp_path, text, **options)[0][0].word("es") == "gato"


def test_concept_by_name(tmp_path: Path) -> None:
    (tmp_path / "lexicon.tsv").write_text(tiny_lexicon(), encoding="utf-8")
    lexicon = read_lexicon(tmp_path / "lexicon.tsv", format="tsv", languages=["fi"])
    assert lexicon["tree"].word("fi") == "puu"
    with pytest.raises(KeyError):
        lexicon["unicorn"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("\tgato\t", "\t\t", r"line 2: concept 'cat' has no word in column 'es'; fill the cell"),
        ("\tgato\t", "\t-\t", r"line 2: concept 'cat' has no word in column 'es'"),
        ("\tgato\t", '\t"gato"\t', r"line 2: concept 'cat' has a double quote in column 'es'"),
        ("\nsea\t", "\ncat\t", r"line 4: column 'concept' is a second 'cat'"),
        ("\nsea\t", "\n\t", r"line 4: column 'concept' is empty; give it a name"),
        ("\tes\t", "\tsp\t", r"no column 'es' for language 'es'; add it, or name another under"),
        ("category", "topic", r"no column 'category' for each concept"),
        ("notes", "es", r"column 'es' appears twice; rename or remove one"),
        ("\tx\n", "\tx\ty\n", r"line 2: 8 cells for 7 columns; remove the surplus separators"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in OWN
    with pytest.raises(StudyError, match=expected) as caught:
        read(tmp_path, OWN.replace(old, new, 1), format="tsv", languages=["en", "es"])
    assert str(caught.value).startswith(str(tmp_path / "lexicon"))


def test_multisimlex(tmp_path: Path) -> None:
    languages = ["en", "et", "zh", "fi"]
    concepts, left_out = read(tmp_path, MULTISIMLEX, format="multisimlex", languages=languages)
    words = {concept.name: concept.words for concept in concepts}
    assert list(words) == ["arm", "muscle", "leg", "wife", "hat, old", "key"]
    assert words["arm"]["zh"] == ("手臂", "胳膊"), "repeated translations become synonyms"
    assert words["arm"]["fi"] == ("käsivarsi", "käsi")
    assert words["wife"]["et"] == ("abikaasa",), "annotations are no part of the word"
    assert left_out == 1, "fish is a noun and a verb"
    assert {concept.pos for concept in concepts} == {"noun"}


def test_multisimlex_leaves_out_what_lacks_a_word(tmp_path: Path) -> None:
    options = {"format": "multisimlex", "languages": ["en", "cy"], "pos": ["noun", "verb"]}
    concepts, left_out = read(tmp_path, MULTISIMLEX, **options)
    assert [c.name for c in concepts] == ["arm", "muscle", "leg", "run", "wife", "hat, old"]
    assert left_out == 2, "key has no Welsh word, and fish two parts of speech"


def test_multisimlex_needs_both_columns_of_a_language(tmp_path: Path) -> None:
    text = MULTISIMLEX.replace("FIN 2", "FIN two")
    with pytest.raises(StudyError, match=r"no column 'FIN 2' for language 'fi'"):
        read(tmp_path, text, format="multisimlex", languages=["en", "fi"])
    with pytest.raises(StudyError, match=r"no column 'de 1' for language 'de'"):
        read(tmp_path, MULTISIMLEX, format="multisimlex", languages=["de"])


def test_concepticon(tmp_path: Path) -> None:
    languages = ["fi", "es", "ru"]
    concepts, left_out = read(tmp_path, CONCEPTICON, format="concepticon", languages=languages)
    words = {concept.name: concept.words for concept in concepts}
    assert list(words) == ["ANT", "couch", "AIRPLANE"]
    assert words["couch"]["fi"] == ("sohva", "divaani")
    assert words["couch"]["es"] == ("sofá", "diván")
    assert words["AIRPLANE"]["fi"] == ("lentokone",), "rows of one concept are put together"
    assert left_out == 1, "gnome has no Spanish word"
    with pytest.raises(StudyError, match=r"no column 'GERMAN' for language 'de'"):
        read(tmp_path, CONCEPTICON, format="concepticon", languages=["de"])


def test_words_with_quotes_are_left_out_of_published_lists(tmp_path: Path) -> None:
    text = CONCEPTICON.replace("hormiga", '"hormiga"')
    concepts, left_out = read(tmp_path, text, format="concepticon", languages=["es"])
    assert "ANT" not in [concept.name for concept in concepts]
    assert left_out == 2


def test_not_a_table(tmp_path: Path) -> None:
    huge = "ENG 1\n" + "x" * 200_000
    with pytest.raises(StudyError, match=r"not a comma-separated table \(field larger than"):
        read(tmp_path, huge, format="multisimlex", languages=["en"])
    with pytest.raises(StudyError, match=r"no column 'concept'"):
        read(tmp_path, "", format="tsv", languages=["en"])


def test_annotations_go_before_separators_in_every_script(tmp_path: Path) -> None:
    text = (
        "ID\tENGLISH\tSPANISH\tRUSSIAN\tCONCEPTICON_GLOSS\n"
        "1\thouse\tcasa (hogar, edificio)\tдом\tHOUSE\n"
        "2\ttree\tárbol\tдерево (живое/сухое)\tTREE\n"
        "3\tgo (walk (on foot))\t*ir\tидти\tGO\n"
    )
    languages = ["en", "es", "ru"]
    concepts, left_out = read(tmp_path, text, format="concepticon", languages=languages)
    words = [{code: concept.words[code] for code in languages} for concept in concepts]
    assert left_out == 0
    assert words == [
        {"en": ("house",), "es": ("casa",), "ru": ("дом",)},
        {"en": ("tree",), "es": ("árbol",), "ru": ("дерево",)},
        {"en": ("go",), "es": ("ir",), "ru": ("идти",)},
    ]


def test_surplus_empty_cells_mean_nothing(tmp_path: Path) -> None:
    header, *rows = CONCEPTICON.splitlines()
    plain = read(tmp_path, CONCEPTICON, format="concepticon", languages=["es", "ru"])
    for ending in ("\t", "\t\t \t"):
        text = "\n".join([header, *(row + ending for row in rows)])
        assert read(tmp_path, text, format="concepticon", languages=["es", "ru"]) == plain
        text = "\n".join(row + ending for row in [header, *rows])
        assert read(tmp_path, text, format="concepticon", languages=["es", "ru"]) == plain
    csv = MULTISIMLEX.replace("\n", ",,\n")
    assert read(tmp_path, csv, format="multisimlex", languages=["en"]) == read(
        tmp_path, MULTISIMLEX, format="multisimlex", languages=["en"]
    )


@pytest.mark.parametrize("written", ["NOUN", "n."])
def test_other_names_of_parts_of_speech_are_listed_with_the_key_that_chooses(
    tmp_path: Path, written: str
) -> None:
    text = OWN.replace("\tnoun\t", f"\t{written}\t")
    with pytest.raises(
        StudyError,
        match=rf"no concept with part of speech noun; there are {written} \(2\), verb \(1\). "
        rf"Choose by `lexicon.pos`, such as `pos: \[{written}\]`",
    ):
        read(tmp_path, text, format="tsv", languages=["en"])
    assert len(read(tmp_path, text, format="tsv", languages=["en"], pos=[written])[0]) == 2


def test_a_list_without_parts_of_speech_is_told_what_is_there(tmp_path: Path) -> None:
    text = "concept\ten\tes\ncat\tcat\tgato\n"
    with pytest.raises(
        StudyError, match=r"no column 'pos' .*`lexicon.pos` chooses \(there: concept, en, es\)"
    ):
        read(tmp_path, text, format="tsv", languages=["en", "es"])
