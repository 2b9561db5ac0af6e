"""From prompts and states to rows: every setting on a tiny model, and known answers by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from glossogenesis.concepts import translation
from glossogenesis.concepts.prompts import build_prompts
from glossogenesis.concepts.request import PatchedRun, PatchRequest
from glossogenesis.concepts.scoring import PATCHING_SCHEMA, AnswerWords
from glossogenesis.concepts.states import SourceStates, extract_states
from glossogenesis.concepts.translation import (
    PatchingPlan,
    check_in_float32,
    layers_of,
    patch_translations,
)
from glossogenesis.corpora.lexicon import Lexicon, read_lexicon
from glossogenesis.exceptions import StudyError
from glossogenesis.models.capture import residual_at
from support.tiny_models import tiny_anatomy
from support.tiny_study import LANGUAGES, tiny_lexicon
from support.tiny_tokenizers import encoder, word_level

ENDONYMS = {"en": "English", "es": "Español", "fi": "Suomi", "ru": "Русский"}
TOKENIZER = word_level([*tiny_lexicon().splitlines(), *ENDONYMS.values(), '"" - : "\n'])
ANATOMY = tiny_anatomy("llama", vocab_size=TOKENIZER.get_vocab_size())
N_LAYERS = 4
SETTINGS = ("seen", "tgt", "en_en", "copy", "self")
SOURCE_PAIRS = {
    "es-en": {
        "seen": [["fi", "ru"], ["ru", "fi"]],
        "tgt": [["es", "en"]],
        "en_en": [["en", "en"]],
        "copy": [["en", "en"]],
    }
}
PLAN = PatchingPlan(
    settings=SETTINGS,
    source_pairs=SOURCE_PAIRS,
    start_layers=(0, 2, 3),
    generate_at=(0, 3),
    max_new_tokens=3,
    stop_ids=frozenset(),
    mode="fast",
    batch_size=4,
)


def decode(tokens: Sequence[int]) -> str:
    return "".join(TOKENIZER.id_to_token(token) for token in tokens)


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Lexicon:
    path: Path = tmp_path_factory.mktemp("lexicon") / "lexicon.tsv"
    path.write_text(tiny_lexicon(), encoding="utf-8")
    return read_lexicon(path, format="tsv", languages=LANGUAGES)


@pytest.fixture(scope="module")
def words(lexicon: Lexicon) -> AnswerWords:
    return AnswerWords(lexicon, dict.fromkeys(LANGUAGES, True))


@pytest.fixture(scope="module")
def prompts(lexicon: Lexicon) -> pl.DataFrame:
    return build_prompts(
        lexicon,
        encoder(TOKENIZER),
        endonyms=ENDONYMS,
        source_pairs=[("fi", "ru"), ("ru", "fi"), ("es", "en"), ("en", "en")],
        measured_pairs=[("es", "en"), ("en", "fi")],
        items=6,
        few_shot=1,
        seed=0,
        space_variants=False,
    ).table


@pytest.fixture(scope="module")
def states(prompts: pl.DataFrame) -> SourceStates:
    return extract_states(
        prompts,
        lambda ids, positions, done: residual_at(
            ANATOMY, ids, positions, batch_size=8, on_batch=done
        ),
    )


@pytest.fixture(scope="module")
def rows(prompts: pl.DataFrame, states: SourceStates, words: AnswerWords) -> pl.DataFrame:
    return patch_translations(ANATOMY, prompts, states, words, decode, PLAN)


def test_a_row_an_item_setting_and_start_layer(rows: pl.DataFrame) -> None:
    assert rows.schema == PATCHING_SCHEMA
    counted = rows.group_by("input_language", "setting", "start_layer").len()
    assert set(counted["len"]) == {6}
    found = {(r[0], r[1], r[2]) for r in counted.iter_rows()}
    unpatched = {
        ("es", "src_unpatched", None),
        ("es", "tgt_unpatched", None),
        ("en", "tgt_unpatched", None),
    }
    patched = {("es", setting, layer) for setting in SETTINGS for layer in PLAN.start_layers}
    assert found == unpatched | patched


def test_answers_only_where_they_are_generated(rows: pl.DataFrame) -> None:
    silent = rows.filter(pl.col("start_layer") == 2)
    spoken = rows.filter((pl.col("start_layer") != 2) | pl.col("start_layer").is_null())
    for column in ("answer", "correct", "outcome"):
        assert silent[column].null_count() == silent.height
        assert spoken[column].null_count() == 0
    assert rows["log_p_expected"].null_count() == 0


def test_expected_concept(rows: pl.DataFrame) -> None:
    of_target = pl.col("setting").is_in(["self", "tgt_unpatched"])
    for part, concept in ((of_target, "target_concept"), (~of_target, "source_concept")):
        chosen = rows.filter(part)
        assert chosen["expected_concept"].equals(chosen[concept].rename("expected_concept"))
    assert rows.filter(pl.col("source_concept") == pl.col("target_concept")).is_empty()


def values(rows: pl.DataFrame, setting: str, layer: int | None, *columns: str) -> list[Any]:
    at = pl.col("start_layer").is_null() if layer is None else pl.col("start_layer") == layer
    chosen = rows.filter((pl.col("setting") == setting) & (pl.col("input_language") == "es") & at)
    return chosen.sort("item").select(columns).rows()


def test_own_states_and_the_last_layer_change_nothing(rows: pl.DataFrame) -> None:
    plain = values(rows, "tgt_unpatched", None, "answer")
    assert values(rows, "self", 0, "answer") == values(rows, "self", 3, "answer") == plain
    assert values(rows, "seen", 3, "answer") == plain
    for column in ("log_p_source", "log_p_target"):
        expected = torch.tensor(values(rows, "tgt_unpatched", None, column))
        for setting, layer in (("self", 0), ("self", 2), ("seen", 3), ("copy", 3)):
            found = torch.tensor(values(rows, setting, layer, column))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert not torch.allclose(
            torch.tensor(values(rows, "seen", 0, column)), expected, atol=1e-2
        )


def test_settings_with_equal_sources_are_equal(rows: pl.DataFrame) -> None:
    columns = ("answer", "log_p_source")
    assert values(rows, "en_en", 0, *columns) == values(rows, "copy", 0, *columns)
    assert values(rows, "en_en", 0, *columns) != values(rows, "seen", 0, *columns)


def test_first_token_probability_is_the_models(rows: pl.DataFrame, prompts: pl.DataFrame) -> None:
    """Of the unpatched target prompt, by transformers' own forward pass."""
    target = prompts.filter(role="target", input_language="es", item=4).row(0, named=True)
    with torch.inference_mode():
        logits = ANATOMY.model(torch.tensor([target["token_ids"]])).logits[0, -1]
    log_p = logits.log_softmax(dim=0)[target["source_answer_tokens"]].logsumexp(dim=0).item()
    assert values(rows, "tgt_unpatched", None, "log_p_source")[4][0] == pytest.approx(
        log_p, abs=1e-4
    )


def test_mode_and_batches_change_nothing(
    rows: pl.DataFrame, prompts: pl.DataFrame, states: SourceStates, words: AnswerWords
) -> None:
    other = replace(PLAN, mode="reference", batch_size=3)
    reference = patch_translations(ANATOMY, prompts, states, words, decode, other)
    numbers = ["log_p_source", "log_p_target", "log_p_expected"]
    assert reference.drop(numbers).equals(rows.drop(numbers))
    for name in numbers:
        difference = (reference[name] - rows[name]).abs().max()
        assert isinstance(difference, float)
        assert difference < 1e-4


def test_a_pair_that_is_not_patched_has_unpatched_rows_alone(rows: pl.DataFrame) -> None:
    settings = rows.filter(input_language="en")["setting"].unique()
    assert set(settings) == {"tgt_unpatched"}


def test_known_answers(
    prompts: pl.DataFrame,
    states: SourceStates,
    words: AnswerWords,
    lexicon: Lexicon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each setting is made to give one kind of answer; `PLAN` has no layer of the last block."""
    one = prompts.filter(
        ((pl.col("role") == "source") | (pl.col("item") == 0)) & (pl.col("input_language") == "es")
    )
    item = one.filter(role="target").row(0, named=True)
    source, target = lexicon[item["source_concept"]], lexicon[item["concept"]]
    said = {
        "seen": source.word("en"),
        "tgt": target.word("en"),
        "en_en": source.word("fi"),
        "copy": target.word("es"),
        "self": target.word("en"),
    }
    tokens = torch.tensor([TOKENIZER.token_to_id(said[setting]) for setting in SETTINGS])
    quote = TOKENIZER.token_to_id('"')

    def answered(request: PatchRequest) -> PatchedRun:
        run = PatchedRun.empty(ANATOMY, request)
        is_patched = request.n_settings == len(SETTINGS)
        run.log_probabilities.fill_(-1.0)
        run.unpatched_log_probabilities.fill_(-1.0)
        word = source.word("en") if not is_patched else said["self"]
        run.unpatched_generated[:] = torch.tensor([TOKENIZER.token_to_id(word), quote, -1])
        run.generated[:] = run.unpatched_generated[None, :, None]
        if is_patched:
            run.generated[..., 0] = tokens[:, None, None]
        return run

    monkeypatch.setattr(translation, "run_patching", lambda _, request, **__: answered(request))
    plan = replace(PLAN, start_layers=(0,), generate_at=(0,))
    rows = patch_translations(ANATOMY, one, states, words, decode, plan)
    assert dict(rows.select("setting", "outcome").iter_rows()) == {
        "src_unpatched": "correct",
        "tgt_unpatched": "correct",
        "seen": "correct",
        "tgt": "kept_target",
        "en_en": "source_other_language",
        "copy": "copied_input",
        "self": "correct",
    }
    assert dict(rows.select("setting", "answer").iter_rows())["copy"] == target.word("es")
    assert rows.filter(pl.col("correct"))["setting"].to_list() == [
        "src_unpatched", "tgt_unpatched", "seen", "self",
    ]  # fmt: skip
    n_tokens = len(item["source_answer_tokens"])
    expected = -1.0 + math.log(n_tokens)
    assert rows["log_p_source"].to_list() == pytest.approx([expected] * rows.height)


def test_layers_of_a_study() -> None:
    assert layers_of("all", 3, "start_layers") == (0, 1, 2)
    assert layers_of([2, 0, 2], 3, "start_layers") == (0, 2)
    with pytest.raises(
        StudyError, match=r"`concepts.generate_at`: layer 3 is beyond the model's last, 2; .*from 0"
    ):
        layers_of([0, 3], 3, "generate_at")


def test_copyable_concepts(lexicon: Lexicon, words: AnswerWords) -> None:
    assert not words.copyable("cat", ("en", "es"))
    assert words.copyable("cat", ("en", "en"))
    assert words.of("cat", "es").forms == ("gato", "minino")
    assert words.of("cat", "es", main_only=True).forms == ("gato",)


def test_a_sample_is_checked_in_float32(
    prompts: pl.DataFrame, states: SourceStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of 0.01 nats passes in bfloat16, and not in the sample."""
    rounded = tiny_anatomy("llama", vocab_size=TOKENIZER.get_vocab_size())
    rounded.model.to(torch.bfloat16)
    short = SourceStates(
        states.concepts, {name: part.bfloat16() for name, part in states.by_pair.items()}
    )
    found = check_in_float32(rounded, prompts, short, PLAN)
    assert found.rows == 4  # of es-en; the pair en-fi is not patched
    assert found.largest < 1e-4
    assert found.facts == {"identities_in_float32": {"rows": 4, "largest": found.largest}}
    assert rounded.dtype == torch.bfloat16

    def shifted(anatomy: Any, request: PatchRequest, **options: Any) -> PatchedRun:
        run = run_patching(anatomy, request, **options)
        assert anatomy.dtype == torch.float32
        return replace(run, log_probabilities=run.log_probabilities + 0.01)

    run_patching = translation.run_patching
    monkeypatch.setattr(translation, "run_patching", shifted)
    with pytest.raises(RuntimeError, match="es-en in float32: `self` differs"):
        check_in_float32(rounded, prompts, short, PLAN)
