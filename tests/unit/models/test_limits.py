"""The limits of a model are known from its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.models.weight_files import ModelLimits, check_supported
from support.tiny_models import ARCHITECTURES, VOCABULARY, tiny_config


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_limits_of_every_architecture(architecture: str) -> None:
    limits = ModelLimits.of(tiny_config(architecture).to_dict())
    assert limits.positions == (None if architecture == "bloom" else 128)
    assert limits.is_absolute == (architecture == "gpt2")
    assert (limits.layers, limits.vocabulary) == (4, VOCABULARY)
    check_supported({"model_type": architecture}, "config.json")


@pytest.mark.parametrize(
    ("rotary", "expected"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 4096),
        ({"rope_scaling": None}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 8192),
        # Qwen: the stated positions are the original model's.
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 4096,
                }
            },
            16384,
        ),
        # Llama 3.1 and Phi: the stated positions are the stretched ones.
        (
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "original_max_position_embeddings": 512,
                }
            },
            4096,
        ),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 8.0,
                    "original_max_position_embeddings": 512,
                }
            },
            4096,
        ),
    ],
)
def test_rotary_positions_in_every_variant(rotary: dict[str, Any], expected: int) -> None:
    config = {"model_type": "llama", "max_position_embeddings": 4096, **rotary}
    assert ModelLimits.of(config).positions == expected


def test_longer_texts_are_refused_where_positions_are_absolute_and_said_elsewhere() -> None:
    absolute = ModelLimits.of({"model_type": "gpt2", "n_positions": 24})
    rotary = ModelLimits.of({"model_type": "llama", "max_position_embeddings": 24})
    without = ModelLimits.of({"model_type": "bloom", "seq_length": 24})
    for limits in (absolute, rotary, without):
        assert limits.longer(24, "prompts", "config.json", "fix") is None
    with pytest.raises(
        StudyError, match=r"config.json: prompts of 36 tokens, but the model has 24 "
    ):
        absolute.longer(36, "prompts", "config.json", "lower it")
    line = rotary.longer(36, "prompts", "config.json", "lower it")
    assert line is not None
    assert "prompts of 36 tokens, but the model has 24 positions in training" in line
    assert without.longer(36, "prompts", "config.json", "lower it") is None


def test_tokens_beyond_the_vocabulary_are_refused() -> None:
    limits = ModelLimits.of({"model_type": "llama", "vocab_size": 10})
    limits.check_vocabulary(9, "prompts", "config.json")
    with pytest.raises(
        StudyError, match=r"config.json: prompts have token id 10, .*only 10 tokens"
    ):
        limits.check_vocabulary(10, "prompts", "config.json")


@pytest.mark.parametrize(
    ("config", "near"),
    [
        ({"model_type": "olmo3"}, "near to it are models of olmo2"),
        ({"model_type": "gemma"}, "near to it are models of gemma2, gemma3_text"),
        ({"model_type": "qwen3_moe"}, "near to it are models of qwen2, qwen3"),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}},
            "_text', is",
        ),
        ({"model_type": "gemma3"}, "its text model, 'gemma3_text', is supported: save that part"),
        (
            {"model_type": "llava", "text_config": {"model_type": "llama"}},
            "'llama', is",
        ),
        ({"model_type": "apertus"}, "none of these is near to it"),
        ({"model_type": "smollm3"}, "none of these is near|near to it are models of"),
        ({"model_type": "phi3"}, "none of these is near"),
        ({}, "architecture 'None' is not supported"),
    ],
)
def test_another_architecture_is_refused_with_the_list_and_what_is_near(
    config: dict[str, Any], near: str
) -> None:
    with pytest.raises(StudyError, match=near) as refused:
        check_supported(config, "some/config.json")
    assert str(refused.value).startswith("some/config.json: architecture")
    assert "supported are llama, mistral, qwen2" in str(refused.value)
