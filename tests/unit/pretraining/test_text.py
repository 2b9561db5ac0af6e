"""Text to pretrain on: the demo's, files of one's own, and posts."""

import itertools
import random
from pathlib import Path

import polars as pl
import pytest
import torch

from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.posts import KINDS
from glossogenesis.exceptions import StudyError
from glossogenesis.pretraining.text import (
    demo_source,
    file_source,
    posts_source,
    token_batches,
    tokenizer_from_text,
)
from glossogenesis.pretraining.training import RunFiles, pretrain
from glossogenesis.storage.provenance import Provenance
from glossogenesis.study.pretrain import FileText, PostsText
from support.tiny_pretraining import CONCEPTS, ENDONYMS, SETTINGS, settings_of, source_of

LEXICON = Path(__file__).parents[3] / "resources/demo/lexicon.tsv"
PROVENANCE = Provenance(kind="pretraining", study="test", settings={}, inputs={}, code="")


def test_no_token_joins_a_word_with_a_quote_beside_it():
    codes = ["en", "es", "ja", "ru", "fi", "zh"]
    lexicon = read_lexicon(
        LEXICON, format="tsv", languages=[*codes, "sw"], pos=("noun", "verb", "adjective")
    )
    shares = {code: {1: 1.0} for code in codes}
    settings = settings_of(
        text={"kind": "demo", "phases": {1: {"pairs": "all"}}},
        steps={1: 1},
        saved_steps=(0,),
        model={"vocabulary": 900},
        short_contexts=(),
        tokenizer_characters=150_000,
    )
    source = demo_source(settings.text, lexicon.concepts, ENDONYMS, shares)
    tokenizer = tokenizer_from_text(source, settings)

    def encode(text):
        return tokenizer(text)["input_ids"]

    for entry in lexicon.concepts:
        for code in [*codes, "sw"]:
            for word in entry.words[code]:
                before, alone = encode('English: "'), encode(word)
                after = encode('" - Español: "')
                text = f'English: "{word}" - Español: "'
                assert encode(text) == before + alone + after
                assert tokenizer.decode(encode(text)) == text


def test_steps_get_the_same_tokens_wherever_training_begins():
    settings = settings_of()
    source = source_of(settings)
    tokenizer = tokenizer_from_text(source, settings)
    every = list(token_batches(source, tokenizer, settings, 1))
    assert [tuple(batch.shape) for batch in every] == [(8, 16)] * 3 + [(4, 32)] * 9
    later = list(token_batches(source, tokenizer, settings, 6))
    assert all(torch.equal(a, b) for a, b in zip(every[5:], later, strict=True))
    text = tokenizer.decode(torch.cat([batch.flatten() for batch in every[:6]]))
    assert "日本語" not in text


def write_texts(folder):
    folder.mkdir(exist_ok=True)
    rng = random.Random(0)
    for code in ("en", "es"):
        lines = [" ".join(rng.choice(CONCEPTS).word(code) for _ in range(9)) for _ in range(40)]
        (folder / f"{code}.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return {code: {1: [str(folder / f"{code}.txt")]} for code in ("en", "es")}


def own_text(files, **changes):
    return settings_of(
        text={"kind": "files", "files": files},
        **{
            "steps": {1: 12},
            "model": {**SETTINGS["model"], "vocabulary": 265},
            "tokenizer_characters": 3000,
            **changes,
        },
    )


def test_own_text_files_are_trained_on_by_their_shares(tmp_path):
    settings = own_text(write_texts(tmp_path / "texts"))
    assert isinstance(settings.text, FileText)
    source = file_source(settings.text, {"en": {1: 0.75}, "es": {1: 0.25}, "ja": {}}, [1])
    stream = source(1, random.Random(0))
    drawn = [next(stream) for _ in range(2000)]
    english = [document.text for document in drawn if document.languages == ("en",)]
    assert len(english) == pytest.approx(1500, abs=60)
    assert len(set(english[:40])) == 40  # each once before any comes again
    files = RunFiles(
        tmp_path / "run/manifest.json", tmp_path / "run/training.parquet", tmp_path / "resume"
    )
    pretrain(settings, source, files, PROVENANCE)
    log = pl.read_parquet(tmp_path / "run/training.parquet")
    assert log["loss"][-1] < log["loss"][0] - 0.3
    assert [Path(path).name for path in settings.text.paths] == ["en.txt", "es.txt"]


def test_texts_that_cannot_be_trained_on_are_refused(tmp_path):
    settings = own_text(write_texts(tmp_path / "texts"))
    with pytest.raises(StudyError, match=r"'ja' has share 0.5 in phase 1 but no text"):
        file_source(settings.text, {"en": {1: 0.5}, "ja": {1: 0.5}}, [1])
    with pytest.raises(StudyError, match="phase 2 has no text"):
        file_source(settings.text, {"en": {1: 0.5}}, [1, 2])
    greedy = own_text(write_texts(tmp_path / "texts"), model={"vocabulary": 5000})
    source = file_source(greedy.text, {"en": {1: 0.5}}, [1])
    with pytest.raises(StudyError, match="lower"):
        tokenizer_from_text(source, greedy)


def test_posts_are_text_without_end(tmp_path):
    spellings = ["concept\tkind\tvariant\tsentence"]
    topics = [f"{home}{number}" for home in ("sea", "sky") for number in range(3)]
    for topic in topics:
        spellings += [f"{topic}\t{kind}\t{topic}-{kind}\tA {topic}-{kind}." for kind in KINDS[:2]]
    communities = ["community\ttopics\tmarkers"]
    communities += [f"{home}\t{home}0|{home}1|{home}2\t!{home}" for home in ("sea", "sky")]
    for name, lines in (("spellings", spellings), ("communities", communities)):
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines), encoding="utf-8")
    text = PostsText(
        communities=str(tmp_path / "communities.tsv"),
        spellings=str(tmp_path / "spellings.tsv"),
        language="ja",
    )
    source = posts_source(text)
    drawn = list(itertools.islice(source(1, random.Random(0)), 200))
    again = list(itertools.islice(source(2, random.Random(0)), 200))
    assert drawn == again
    assert {document.languages for document in drawn} == {("ja",)}
    assert all(document.text.partition("\n")[2] for document in drawn)  # title, then body
    homes = [home for document in drawn for home in ("sea", "sky") if f"!{home}" in document.text]
    assert homes.count("sea") == pytest.approx(100, abs=25)
    assert homes.count("sea") + homes.count("sky") == 200
