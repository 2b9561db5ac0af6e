"""Languages of any script of Unicode, with codes of any standard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.token_languages import ScriptLanguages, languages_known_by_script
from glossogenesis.exceptions import StudyError
from glossogenesis.study.inputs import LanguageSettings
from glossogenesis.workflow.jobs_concepts import prompts_settings
from support.tiny_study import replace, tiny_study

WORDS = {
    "Thai": "แมว", "Bengali": "বিড়াল", "Tamil": "பூனை", "Georgian": "კატა", "Ethiopic": "ድመት",
    "Armenian": "կատու", "Khmer": "ឆ្មា", "Sinhala": "පූසා", "Gurmukhi": "ਬਿੱਲੀ", "Myanmar": "ကြောင်",
    "Mongolian": "ᠮᠠᠭᠤᠢ", "Tifinagh": "ⵎⵓⵛⵛ", "Nko": "ߢߊ߲ߞߎߡߊ", "Cherokee": "ᏪᏌ", "Tibetan": "ཞི་མི",
}  # fmt: skip


def language(script: str) -> LanguageSettings:
    return LanguageSettings.model_validate({"endonym": "x", "script": script, "group": "g"})


@pytest.mark.parametrize(
    "script", [*WORDS, "Old_Italic", "Canadian_Aboriginal", "Latin", "Japanese"]
)
def test_every_script_of_unicode_by_its_name(script: str) -> None:
    assert language(script).script == script
    assert language(script.lower().replace("_", " ")).script == script


@pytest.mark.parametrize("script", ["Klingon", "Latn", "Common", "", "L", "Thai}x"])
def test_what_is_no_script_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match="is no script of Unicode; write its name in full"):
        language(script)


def test_scripts_without_spaces_ask_for_equal_answers() -> None:
    without = {script for script in WORDS if not language(script).spaced}
    assert without == {"Thai", "Khmer", "Myanmar", "Tibetan"}


def test_letters_tell_languages_apart_in_every_script() -> None:
    scripts = {script: script for script in WORDS} | {"ja": "Japanese", "en": "Latin"}
    words = {**WORDS, "ja": "ネコー", "en": "cat"}
    assert languages_known_by_script(scripts) == tuple(scripts)
    telling = ScriptLanguages.of(scripts)
    texts = list(words.values())
    spans = np.array([[0, len(text)] for text in texts])
    found = telling.of_tokens(texts, spans, np.ones(len(texts), dtype=int))
    codes = list(scripts)
    assert [codes[number] for number in found] == list(words)
    shared = {"th": "Thai", "th2": "Thai", "en": "Latin"}
    assert languages_known_by_script(shared) == ("en",)


CODES = ["zh-Hans", "sr-Latn", "sr-Latn-RS", "zho_Hans", "es-419", "pt-BR", "yue_Hant", "x"]


@pytest.mark.parametrize("code", CODES)
def test_codes_of_any_standard(tmp_path: Path, code: str) -> None:
    def change(content: dict[str, Any]) -> None:
        content["languages"][code] = content["languages"].pop("es")
        content["concepts"]["target_pairs"] = [[code, "en"]]

    tiny_study(tmp_path)
    replace(tmp_path / "lexicon.tsv", "\tes\t", f"\t{code}\t")
    study = tiny_study_kept_lexicon(tmp_path, change)
    settings = prompts_settings(study, "local")
    assert [code, "en"] in settings["measured_pairs"]
    lexicon = read_lexicon(study.lexicon_path or "", **settings["lexicon"])
    assert lexicon["tree"].word(code) == "árbol"


def tiny_study_kept_lexicon(folder: Path, change: Any) -> Any:
    text = (folder / "lexicon.tsv").read_text(encoding="utf-8")
    study = tiny_study(folder, change)
    (folder / "lexicon.tsv").write_text(text, encoding="utf-8")
    return study


@pytest.mark.parametrize("code", ["-es", "es-", "e s", "es/../x", "1es", "es--x"])
def test_what_is_no_code_is_refused(tmp_path: Path, code: str) -> None:
    def change(content: dict[str, Any]) -> None:
        content["languages"][code] = content["languages"]["es"]

    with pytest.raises(StudyError, match=r"language codes are letters and digits .*zho_Hans"):
        tiny_study(tmp_path, change)


def test_pairs_that_read_alike_are_refused(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for code in ("a", "a-b", "b-c", "c"):
            content["languages"][code] = content["languages"]["es"]

    with pytest.raises(StudyError, match=r"the pair 'a-b-c' is of .* with `_` in place of `-`"):
        tiny_study(tmp_path, change)


def test_published_lists_have_the_language_of_a_longer_code(tmp_path: Path) -> None:
    path = tmp_path / "list.tsv"
    path.write_text("ID\tENGLISH\tCHINESE\n1\tcat\t猫\n", encoding="utf-8")
    lexicon = read_lexicon(path, format="concepticon", languages=["en-GB", "zh-Hans"])
    assert lexicon.concepts[0].word("zh-Hans") == "猫"
