"""The table of prompts: which rows it has, and that nothing in it is left to chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from glossogenesis.concepts.prompts import (
    PROMPTS_SCHEMA,
    PromptTable,
    answers_too_long,
    build_prompts,
)
from glossogenesis.corpora.lexicon import Lexicon, read_lexicon
from glossogenesis.exceptions import StudyError
from support.tiny_study import LANGUAGES, tiny_lexicon
from support.tiny_tokenizers import byte_level, encoder, with_ends, word_level

ENDONYMS = {"en": "English", "es": "Español", "fi": "Suomi", "ru": "Русский"}
LINES = [*tiny_lexicon().splitlines(), *ENDONYMS.values(), 'x: "y" - z: "']
TOKENIZERS = {"words": word_level(LINES), "bytes": byte_level(LINES)}


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Lexicon:
    path: Path = tmp_path_factory.mktemp("lexicon") / "lexicon.tsv"
    path.write_text(tiny_lexicon(), encoding="utf-8")
    return read_lexicon(path, format="tsv", languages=LANGUAGES)


def build(lexicon: Lexicon, tokenizer: str = "words", **changes: Any) -> PromptTable:
    options: dict[str, Any] = {
        "endonyms": ENDONYMS,
        "source_pairs": [("fi", "ru"), ("ru", "fi")],
        "measured_pairs": [("es", "en"), ("fi", "ru")],
        "items": 20,
        "few_shot": 2,
        "seed": 3,
        "space_variants": True,
    }
    encode = encoder(TOKENIZERS[tokenizer])
    return build_prompts(lexicon, encode, **options | changes)


def test_rows(lexicon: Lexicon) -> None:
    prompts = build(lexicon)
    table = prompts.table
    assert table.schema == PROMPTS_SCHEMA
    sources = table.filter(role="source")
    targets = table.filter(role="target")
    assert targets.height == 2 * 20
    assert sources.height == 2 * targets["source_concept"].n_unique()
    assert sources["item"].null_count() == sources.height
    assert sources.filter(pl.col("concept") != pl.col("source_concept")).is_empty()
    assert prompts.counts["source_prompts"] == sources.height
    assert prompts.counts["target_prompts"] == 40
    assert prompts.counts["concepts"] == 16
    assert prompts.counts["usable_pairs"] + prompts.counts["colliding_pairs_left_out"] == 16 * 15
    assert "colliding pairs left out: " in prompts.summary


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_every_row_holds_its_own_tokens(lexicon: Lexicon, tokenizer: str) -> None:
    encode = encoder(TOKENIZERS[tokenizer])
    for row in build(lexicon, tokenizer).table.iter_rows(named=True):
        assert row["token_ids"] == encode(row["text"])
        word = lexicon[row["concept"]].word(row["input_language"])
        cut = row["text"][: row["text"].rindex(f'"{word}"') + 1 + len(word)]
        assert row["token_ids"][: row["position"] + 1] == encode(cut)
        assert row["text"].count("\n") == 2
        assert row["text"].endswith(f'- {ENDONYMS[row["output_language"]]}: "')
        for name, concept in (
            ("answer_tokens", "concept"),
            ("source_answer_tokens", "source_concept"),
        ):
            answer = lexicon[row[concept]].word(row["output_language"])
            first = encode(row["text"] + answer)[len(row["token_ids"])]
            assert first in row[name]


def test_sources_depend_on_the_concept_alone(lexicon: Lexicon) -> None:
    few, many = (build(lexicon, items=items).table.filter(role="source") for items in (5, 30))
    joined = few.join(many, on=["concept", "input_language", "output_language"], how="left")
    assert joined.filter(pl.col("text") != pl.col("text_right")).is_empty()
    assert joined["text_right"].null_count() == 0
    assert (
        few.group_by("concept").agg(pl.col("few_shot").n_unique())["few_shot"].to_list()
        == [1] * few["concept"].n_unique()
    )


def test_pairs_share_their_items(lexicon: Lexicon) -> None:
    targets = build(lexicon).table.filter(role="target")
    columns = ["item", "concept", "source_concept", "few_shot"]
    first, second = targets.partition_by("input_language", maintain_order=True)
    assert first.select(columns).equals(second.select(columns))


def test_first_tokens_of_source_and_target_differ(lexicon: Lexicon) -> None:
    for row in build(lexicon, "bytes").table.filter(role="target").iter_rows(named=True):
        assert not set(row["answer_tokens"]) & set(row["source_answer_tokens"])


def test_equal_twice_and_other_with_another_seed(lexicon: Lexicon) -> None:
    assert build(lexicon).table.equals(build(lexicon).table)
    assert not build(lexicon, seed=4).table.equals(build(lexicon).table)


def test_collisions_leave_too_few(lexicon: Lexicon) -> None:
    """Bytes of Russian words begin with one of two tokens, so most pairs collide there."""
    TOKENIZERS["single bytes"] = byte_level(LINES, size=256)
    with pytest.raises(StudyError, match=r"only \d+ can be drawn from 16 concepts \(\d+ of 240"):
        build(lexicon, "single bytes", measured_pairs=[("es", "ru")], items=200)


def test_a_closing_tokenizer_is_refused(lexicon: Lexicon) -> None:
    TOKENIZERS["closed"] = with_ends(word_level(LINES), "$A </s>")
    with pytest.raises(StudyError, match=r"ends every text with the special token"):
        build(lexicon, "closed")


def test_answers_that_new_tokens_cannot_spell_are_counted(lexicon: Lexicon) -> None:
    prompts = build(lexicon, "bytes").table
    lengths = prompts["answer_length"]
    assert answers_too_long(prompts, max(lengths)) == 0
    assert answers_too_long(prompts, max(lengths) - 1) == (lengths == max(lengths)).sum() > 0
    assert answers_too_long(prompts, 0) == prompts.height
    shortest = prompts.row(lengths.arg_min(), named=True)
    word = lexicon[shortest["concept"]].word(shortest["output_language"])
    assert 1 <= shortest["answer_length"] <= len(word.encode())
