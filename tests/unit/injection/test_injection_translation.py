"""Translations under injection: what is asked, how it is scored, and the rows that come of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import sacrebleu
import torch

from glossogenesis.concepts.prompts import build_prompts
from glossogenesis.concepts.scoring import AnswerWords
from glossogenesis.corpora.control_tokens import AnswerTokens
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.exceptions import StudyError
from glossogenesis.injection.method import LatentGroups, Method, variants_of
from glossogenesis.injection.perplexity import LayerInjection, TwoModels
from glossogenesis.injection.tables import TRANSLATION_SCHEMA
from glossogenesis.injection.tasks import (
    TranslationScorer,
    TranslationTask,
    load_comet,
    parallel_tasks,
    prompt_tasks,
    tasks_of,
)
from glossogenesis.injection.translation import Answers, Decoding, translate, translation_table
from glossogenesis.statistics.intervals import Bootstrap
from support.tiny_models import D_MODEL, random_tokens, tiny_anatomy
from support.tiny_saes import random_sae
from support.tiny_study import LANGUAGES, tiny_lexicon
from support.tiny_tokenizers import encoder, word_level

ENDONYMS = {"en": "English", "es": "Español", "fi": "Suomi", "ru": "Русский"}
SPACED = dict.fromkeys(LANGUAGES, True)
BOOTSTRAP = Bootstrap(200)


def task(references: Sequence[Sequence[str]], **changed: Any) -> TranslationTask:
    facts: dict[str, Any] = {
        "pair": ("en", "es"),
        "prompts": random_tokens([5 + place for place in range(len(references))]),
        "sources": [f"source {place}" for place in range(len(references))],
        "references": references,
        "ends_at": "\n",
        "spaced": True,
        "of_words": False,
    }
    return TranslationTask(**{**facts, **changed})


def answer_tokens(decode: Any, controls: Sequence[int] = ()) -> AnswerTokens:
    tokenizer = SimpleNamespace(decode=decode)
    return AnswerTokens(tokenizer, frozenset(), frozenset(), frozenset(controls))


SENTENCES = ["the cat sat on the mat today", "a dog runs in the green park", "it is raining again"]
ANSWERS = ["the cat sat on a mat today", "a dog runs in the park", "it rains"]


def test_corpus_scores_are_sacrebleus() -> None:
    scores = TranslationScorer(task([[line] for line in SENTENCES]), BOOTSTRAP, None).scores(
        ANSWERS
    )
    assert scores["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [SENTENCES]).score)
    assert scores["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(ANSWERS, [SENTENCES]).score)
    assert set(scores) == {"bleu", "chrf"}


def test_a_resample_is_the_score_of_the_resampled_sentences() -> None:
    scorer = TranslationScorer(task([[line] for line in SENTENCES]), BOOTSTRAP, None)
    scores = scorer.scores(ANSWERS)
    for number in range(5):
        drawn = [place for place, n in enumerate(scorer._draws[number]) for _ in range(n)]
        answers = [ANSWERS[place] for place in drawn]
        lines = [SENTENCES[place] for place in drawn]
        for metric, expected in (
            ("bleu", sacrebleu.corpus_bleu(answers, [lines], use_effective_order=True).score),
            ("chrf", sacrebleu.corpus_chrf(answers, [lines]).score),
        ):
            assert scores[metric].resampled[number] == pytest.approx(expected)


def test_words_have_all_their_synonyms_as_references() -> None:
    words = task([("gato", "minino"), ("pan",)], of_words=True)
    scores = TranslationScorer(words, BOOTSTRAP, None).scores(["minino", "sol"])
    assert scores["exact"].value == 0.5
    assert scores["bleu"].value == pytest.approx(50.0)
    assert TranslationScorer(words, BOOTSTRAP, None).scores(["gato", "pan"])[
        "bleu"
    ].value == pytest.approx(100)


def test_text_without_spaces_is_cut_into_characters() -> None:
    lines = task([["猫が好きです"]], spaced=False)
    scorer = TranslationScorer(lines, BOOTSTRAP, None)
    expected = sacrebleu.corpus_bleu(["猫も好きです"], [["猫が好きです"]], tokenize="char").score
    assert scorer.scores(["猫も好きです"])["bleu"].value == pytest.approx(expected)
    assert "tok:char" in scorer.signatures["bleu"]
    assert np.isnan(scorer.scores(["猫も好きです"])["bleu"].resampled).all()


def test_comet_is_asked_with_the_usual_reference() -> None:
    asked = []

    def comet(sources: Any, answers: Any, references: Any) -> list[float]:
        asked.append((list(sources), list(answers), list(references)))
        return [0.25, 0.75]

    words = task([("gato", "minino"), ("pan",)], of_words=True)
    scorer = TranslationScorer(words, BOOTSTRAP, comet)
    assert scorer.scores(["a", "b"])["comet"].value == 0.5
    scorer.scores(["a", "b"])
    assert asked == [(["source 0", "source 1"], ["a", "b"], ["gato", "pan"])]


def test_comet_that_is_not_installed_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comet", None)
    with pytest.raises(StudyError, match=r"pip install 'glossogenesis\[comet\]'"):
        load_comet("Unbabel/wmt22-comet-da", batch_size=4, gpu=False)


def test_comet_scores_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(rows: list[dict[str, str]], **keywords: Any) -> Any:
        assert keywords == {"batch_size": 4, "gpus": 0, "progress_bar": False}
        return SimpleNamespace(scores=[len(row["src"] + row["mt"] + row["ref"]) for row in rows])

    package = SimpleNamespace(
        download_model=lambda name: f"/models/{name}",
        load_from_checkpoint=lambda path: {"/models/da": SimpleNamespace(predict=predict)}[path],
    )
    monkeypatch.setitem(sys.modules, "comet", package)
    assert load_comet("da", batch_size=4, gpu=False)(["a"], ["bb"], ["ccc"]) == [6.0]


def test_tasks_of_prompts(tmp_path: Path) -> None:
    file = tmp_path / "lexicon.tsv"
    file.write_text(tiny_lexicon(), encoding="utf-8")
    lexicon = read_lexicon(file, format="tsv", languages=LANGUAGES)
    tokenizer = word_level([*tiny_lexicon().splitlines(), *ENDONYMS.values(), '"" - : "\n'])
    prompts = build_prompts(
        lexicon,
        encoder(tokenizer),
        endonyms=ENDONYMS,
        source_pairs=[("fi", "ru")],
        measured_pairs=[("en", "es"), ("es", "en")],
        items=6,
        few_shot=1,
        seed=0,
        space_variants=False,
    ).table
    words = AnswerWords(lexicon, SPACED)
    (made,) = prompt_tasks(prompts, [("en", "es")], words)
    rows = prompts.filter(role="target", output_language="es")
    assert list(made.prompts) == rows["token_ids"].to_list()
    assert made.sources == [lexicon[name].word("en") for name in rows["concept"]]
    assert list(made.references) == [lexicon[name].words["es"] for name in rows["concept"]]
    assert made.ends_at == '"'
    with pytest.raises(StudyError, match="has fi-en, which no prompt"):
        prompt_tasks(prompts, [("fi", "en")], words)


def test_answers_are_cut_at_their_end_and_without_special_tokens() -> None:
    texts = {5: " el", 6: " gato", 7: "\n", 8: "</s>"}
    tokens = answer_tokens(lambda ids, **_: "".join(texts[token] for token in ids), controls=[8])
    assert task([["x"]]).answer([5, 6, 7, -1], tokens) == "el gato"
    assert task([["x"]]).answer([6, 8, -1, -1], tokens) == "gato"
    assert task([["x"]]).answer([8, -1], tokens) == ""


PARALLEL = {"sentences": 2, "few_shot": 1, "endonyms": ENDONYMS, "spaced": SPACED}


def parallel_files(folder: Path, english: str, spanish: str) -> dict[str, list[str]]:
    paths = []
    for name, text in (("en.txt", english), ("es.txt", spanish)):
        (folder / name).write_text(text, encoding="utf-8")
        paths.append(str(folder / name))
    return {"en-es": paths}


def test_tasks_of_parallel_text(tmp_path: Path) -> None:
    files = parallel_files(tmp_path, "one\ntwo\nthree\nfour\n", "uno\ndos\ntres\ncuatro\n")
    (made,) = parallel_tasks(files, **PARALLEL, encode=lambda text: [ord(sign) for sign in text])
    assert made.pair == ("en", "es")
    texts = ["".join(map(chr, ids)) for ids in made.prompts]
    assert texts == [
        "English: one\nEspañol: uno\n\nEnglish: two\nEspañol:",
        "English: one\nEspañol: uno\n\nEnglish: three\nEspañol:",
    ]
    assert made.sources == ["two", "three"]
    assert made.references == [["dos"], ["tres"]]
    assert made.ends_at == "\n"


@pytest.mark.parametrize(
    ("english", "message"),
    [
        ("one\ntwo\n", r"en.txt: 2 lines, but `sentences` and `few_shot` ask for 3"),
        ("one\n \nthree\n", r"en.txt, line 2: empty"),
    ],
)
def test_parallel_files_that_do_not_fit_are_refused(
    tmp_path: Path, english: str, message: str
) -> None:
    files = parallel_files(tmp_path, english, "uno\ndos\ntres\n")
    with pytest.raises(StudyError, match=message):
        parallel_tasks(files, **PARALLEL, encode=lambda text: [1])


def test_a_pair_of_unknown_languages_is_refused(tmp_path: Path) -> None:
    (paths,) = parallel_files(tmp_path, "", "").values()
    with pytest.raises(StudyError, match="the pair 'en-xx', which is no two languages"):
        parallel_tasks({"en-xx": paths}, **PARALLEL, encode=lambda text: [1])


def test_nothing_is_translated_by_default_and_prompts_need_their_file() -> None:
    assert tasks_of({"translation": None}, None, None, lambda text: [1]) == []
    with pytest.raises(StudyError, match="give `--lexicon`"):
        tasks_of({"translation": {"kind": "prompts"}}, None, None, lambda text: [1])


MODELS = TwoModels(tiny_anatomy("llama", seed=1), tiny_anatomy("llama", seed=0))
GROUPS = LatentGroups({"en": torch.arange(20), "es": torch.arange(0)}, alive=torch.arange(64))
INJECTIONS = [
    LayerInjection(
        layer,
        random_sae(D_MODEL, 64),
        variants := variants_of(GROUPS, d_model=D_MODEL, draws=2, seed=0, layer=layer),
        [1.0] * len(variants),
    )
    for layer in (0, 1)
]


def translated(tasks: Sequence[TranslationTask], batch_size: int = 2) -> list[Answers]:
    return translate(
        MODELS,
        tasks,
        INJECTIONS,
        [1.0, 4.0],
        Method(),
        Decoding(answer_tokens(lambda ids, **_: " ".join(map(str, ids))), 5, skip_first=True),
        batch_size,
    )


TASKS = [task([["7 8 9"], ["10 11"], ["4 5"]]), task([["7"], ["10"]], of_words=True)]


def test_batches_do_not_change_answers() -> None:
    two, one = translated(TASKS, 2), translated(TASKS, 1)
    assert two == one
    assert all(len(answer.split()) == 5 for answer in two[0].plain)
    assert len({tuple(answers) for answers in two[0].injected.values()}) > 1


def test_rows_of_translations() -> None:
    answers = translated(TASKS)
    table, signatures = translation_table(TASKS, answers, INJECTIONS, [1.0, 4.0], BOOTSTRAP, None)
    assert table.schema == TRANSLATION_SCHEMA
    rows_of_a_layer = 1 + 2 * (5 + 2 + 1)
    assert table.height == 2 * rows_of_a_layer * (2 + 3)
    assert set(signatures) == {"en-es bleu", "en-es chrf"}
    chrf = table.filter(metric="chrf", layer=1, sentences=3)
    plain = chrf.filter(group="none").row(0, named=True)
    expected = sacrebleu.corpus_chrf(answers[0].plain, [["7 8 9", "10 11", "4 5"]]).score
    assert plain["value"] == pytest.approx(expected)
    assert plain["low"] <= plain["value"] <= plain["high"]
    own = chrf.filter(group="en", control="none", alpha=4.0).row(0, named=True)
    assert own["difference"] == pytest.approx(own["value"] - plain["value"])
    drawn = chrf.filter(pl.col("draw").is_not_null(), group="en", control="random", alpha=4.0)
    mean = chrf.filter(pl.col("draw").is_null(), group="en", control="random", alpha=4.0)
    assert mean["value"].to_list() == pytest.approx([drawn["value"].mean()])
    assert mean["difference"].to_list() == pytest.approx([drawn["value"].mean() - plain["value"]])
    assert mean["low"].item() <= mean["value"].item() <= mean["high"].item()
    assert own["over_random"] == pytest.approx(own["value"] - drawn["value"].mean())
    assert own["mean_change"] == 4.0
    empty = chrf.filter(pl.col("group") == "es")
    assert empty["value"].to_list() == [plain["value"]] * 2
    assert empty["difference"].to_list() == [0.0] * 2
