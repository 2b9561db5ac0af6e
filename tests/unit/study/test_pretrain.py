"""Sizes, phases and steps of a pretraining."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from glossogenesis.study.pretrain import PretrainSettings, one_training_a_seed

GOOD: dict[str, Any] = {
    "text": {"kind": "demo", "phases": {1: {"pairs": "pivot"}, 2: {"pairs": "all"}}},
    "steps": {1: 4, 2: 6},
    "saved_steps": [0, 4, 10],
}


POSTS: dict[str, Any] = {
    "kind": "posts",
    "communities": "communities.tsv",
    "spellings": "spellings.tsv",
    "language": "ja",
}
CONTINUED: dict[str, Any] = {
    "start": {"model": "demo", "checkpoint": "step10"},
    "text": POSTS,
    "steps": {1: 4},
    "saved_steps": [0, 4],
}


def test_steps_and_tokens_are_counted_over_phases() -> None:
    settings = PretrainSettings.model_validate(GOOD)
    assert settings.total_steps == 10
    assert settings.tokens_per_step == 32 * 128


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"saved_steps": [4, 0]}, "step 0 stands after 4; list rising steps"),
        ({"saved_steps": [11]}, "`saved_steps` names step 11, but training ends at 10"),
        ({"steps": {1: 4, 3: 6}}, r"`steps` has phases \[1, 3\]; number them \[1, 2\]"),
        ({"steps": {1: 10}}, r"`text.phases` describes phases \[1, 2\], but `steps` has \[1\]"),
        ({"context": 600}, "`context` 600 is longer than `model.positions` 512"),
        ({"model": {"hidden": 130}}, "hidden 130 is not a multiple of heads 4"),
        ({"model": {"hidden": 4, "heads": 4}}, "is odd, and rotary positions need"),
        ({"model": {"key_value_heads": 3}}, "heads 4 is not a multiple of key_value_heads 3"),
        ({"short_contexts": [{"context": 33, "steps": 1}]}, "context 33, which does not divide"),
        ({"model": {"vocabulary": 100}}, "greater than or equal to 258"),
        ({"text": POSTS, "shares": {"ja": {1: 1, 2: 1}}}, "`shares` has no meaning for posts"),
        ({"shares": {"en": {1: 1}}}, r"`shares` gives text to phases \[1\], but .* \[1, 2\]"),
        ({"shares": {"en": {1: 1, 2: 0}}}, r"`shares` gives text to phases \[1\]"),
        ({"shares": {"en": {1: 1, 2: 1, 3: 1}}}, r"`shares` gives text to phases \[1, 2, 3\]"),
    ],
)
def test_parts_that_disagree(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        PretrainSettings.model_validate(GOOD | change)


def test_text_files_are_listed_once() -> None:
    text = {"kind": "files", "files": {"en": {1: ["a.txt"], 2: ["a.txt", "b.txt"]}}}
    settings = PretrainSettings.model_validate(GOOD | {"text": text})
    assert settings.text.paths == ("a.txt", "b.txt")
    assert PretrainSettings.model_validate(GOOD).text.paths == ()
    assert PretrainSettings.model_validate(CONTINUED).text.paths == (
        "communities.tsv",
        "spellings.tsv",
    )


@pytest.mark.parametrize(
    "change", [{"model": {}}, {"model": {"hidden": 64}}, {"tokenizer_characters": 1000}]
)
def test_a_start_gives_sizes_and_tokenizer(change: dict[str, Any]) -> None:
    (key,) = change
    with pytest.raises(ValidationError, match=f"`{key}` and `start` are both given"):
        PretrainSettings.model_validate(CONTINUED | change)


def test_settings_with_a_start_come_back_from_json_and_claim_no_sizes() -> None:
    settings = PretrainSettings.model_validate(CONTINUED | {"context": 4096})
    content = settings.model_dump(mode="json")
    assert "model" not in content and "tokenizer_characters" not in content
    assert PretrainSettings.model_validate(content) == settings
    assert "model" in PretrainSettings.model_validate(GOOD).model_dump(mode="json")


def test_each_seed_is_a_training_of_its_own() -> None:
    single = PretrainSettings.model_validate(GOOD)
    several = PretrainSettings.model_validate(GOOD | {"seeds": [0, 4]})
    trainings = one_training_a_seed({"demo": several})
    # One more seed changes nothing of the first.
    assert trainings["demo"] == single
    assert {name: settings.seed for name, settings in trainings.items()} == {
        "demo": 0,
        "demo.seed4": 4,
    }
    with pytest.raises(ValueError, match=r"two trainings are called demo\.seed4"):
        one_training_a_seed({"demo": several, "demo.seed4": single})
