"""Reading a study as a whole: defaults, paths, and what its parts must agree on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.study.loading import load_study
from support.tiny_study import change_study, replace, tiny_study, write_tiny_study


def test_good_study(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    assert study.name == "tiny"
    assert study.models == ("local", "small")
    assert [row.checkpoint for row in study.checkpoints_of("small")] == ["start", "end"]
    assert study.checkpoint("small", "end").step == 8
    assert study.concepts.max_new_tokens == 5
    assert study.concepts.measured_pairs == (("es", "en"), ("en", "en"))
    with pytest.raises(KeyError):
        study.checkpoint("small", "early")


def test_the_demo_study_is_good() -> None:
    assert load_study(Path(__file__).parents[3] / "config.yaml").name == "demo"


def test_paths_count_from_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny_study(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert study.lexicon_path == f"{tmp_path.name}/lexicon.tsv"
    assert study.path("../words.tsv") == "words.tsv"
    assert study.path("/words.tsv") == "/words.tsv"
    assert study.path("~/words.tsv") == str(Path.home() / "words.tsv")
    assert study.path("~nobody-of-that-name/words.tsv").startswith(f"{tmp_path.name}/~nobody")


def test_a_study_without_concepts_says_so_when_asked(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, lambda content: content.pop("concepts"))
    with pytest.raises(StudyError, match=r"no section `concepts`; add it or ask for other targets"):
        _ = study.concepts


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda s: s["concepts"].update(max_new_token=3),
            r"unknown key `concepts.max_new_token`; did you mean `max_new_tokens`\?",
        ),
        (lambda s: s.update(concept={}), r"unknown key `concept`; did you mean `concepts`\?"),
        (
            lambda s: s["pretrain"]["small"]["model"].update(hiden=3),
            r"unknown key `pretrain.small.model.hiden`; did you mean `hidden`\?",
        ),
        (
            lambda s: s["pretrain"]["small"]["text"]["phases"][1].update(copy=1),
            r"unknown key `pretrain.small.text.phases.1.copy`; did you mean `copying`\?",
        ),
        (
            lambda s: s["languages"]["es"].update(colour="red"),
            r"unknown key `languages.es.colour`; known keys are endonym, group, script, seen",
        ),
        (lambda s: s.pop("lexicon"), r"`concepts` needs a lexicon; add the section `lexicon`"),
        (
            lambda s: s["pretrain"]["small"]["text"].pop("kind"),
            r"`pretrain.small.text`: key 'kind' is missing",
        ),
        (
            lambda s: s["concepts"].update(start_layers="none"),
            r"`concepts.start_layers`: Input should be 'all', or Input should be a list",
        ),
        (
            lambda s: s["concepts"].update(start_layers=[0, "x"]),
            r"`concepts.start_layers.1`: Input should be a valid integer.*\(got 'x'\)",
        ),
        (
            lambda s: s["models"].update({"a/b": {}}),
            r"`models.a/b`: names become parts of paths: begin with a letter or digit.*'a/b'",
        ),
        (
            lambda s: s["languages"].update({"zh--Hant": s["languages"]["es"]}),
            r"`languages.zh--Hant`: language codes are letters and digits",
        ),
        (
            lambda s: s["languages"].update({False: s["languages"]["es"]}),
            r"`languages.False`: YAML reads unquoted no.*write the code in quotes",
        ),
        (
            lambda s: s["models"]["local"].update(parameters=float("inf")),
            r"`models.local.parameters`: Input should be a finite number",
        ),
        (
            lambda s: s["models"]["local"].pop("parameters"),
            r"`models.local.parameters` is missing; give the number of weights",
        ),
        (
            lambda s: s["concepts"].update(generate_at=[2]),
            r"`concepts`: generate_at names layer 2, which start_layers does not; add it there",
        ),
        (
            lambda s: s["concepts"].update(settings=["tgt", "tgt"]),
            r"`concepts.settings`: tgt appears twice; remove one",
        ),
        (
            lambda s: s["concepts"].update(target_pairs=[["es", "de"]]),
            r"`concepts.target_pairs` names language 'de', which `languages` does not describe",
        ),
        (
            lambda s: s["concepts"].update(pivot="de"),
            r"`concepts.pivot` names language 'de'",
        ),
        (
            lambda s: s["concepts"].update(exclude_related={"es": ["pt"]}),
            r"`concepts.exclude_related` names language 'pt'",
        ),
        (
            lambda s: s["lexicon"].update(columns={"de": "GERMAN"}),
            r"`lexicon.columns` names language 'de'.*add `languages.de` \(there: en, es, fi, ru\)",
        ),
        (
            lambda s: s["pretrain"]["small"]["text"].update(pivot="de"),
            r"`pretrain.small.text.pivot` names language 'de'",
        ),
        (
            lambda s: s["pretrain"].clear(),
            r"checkpoint 'start' has source 'pretrain:small', but .* has no `pretrain.small`",
        ),
        (
            lambda s: s["models"].pop("small"),
            r"sheet.tsv: model 'small' is not described in .*under `models` \(there: local\)",
        ),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    write_tiny_study(tmp_path)
    change_study(tmp_path, change)
    with pytest.raises(StudyError, match=expected) as caught:
        load_study(tmp_path / "study.yaml")
    assert str(tmp_path) in str(caught.value)


def test_the_number_of_further_mistakes_is_given(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    change_study(tmp_path, lambda s: s.update(colour=1, models={}))
    with pytest.raises(StudyError, match=r" \(1 more\)$"):
        load_study(tmp_path / "study.yaml")


def test_a_step_of_the_sheet_is_one_that_its_pretraining_saves(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    replace(tmp_path / "sheet.tsv", "\t8\t\t1\tpretrain", "\t4\t\t1\tpretrain")
    with pytest.raises(StudyError, match=r"'end' is step 4, which `pretrain.small.saved"):
        load_study(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("study: [1\nx: 2", r"study.yaml, line 2: not valid YAML \(.*\); correct its indentation"),
        ("study: 2024-99-99", r"study.yaml: not valid YAML \(month must be in 1..12"),
        ("- a\n- b", r"study.yaml: a study is a mapping of keys; see config.yaml"),
        ("[" * 5000, r"study.yaml: not valid YAML"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(StudyError, match=expected):
        load_study(file)
