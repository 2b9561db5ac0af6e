"""Costs: right where they can be exact, and growing with what they depend on elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from glossogenesis.study.loading import load_study
from glossogenesis.study.pretrain import ModelSize, PretrainSettings
from glossogenesis.workflow import costs
from support.tiny_study import tiny_study

STUDIES = Path(__file__).parents[3] / "resources" / "studies"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("key_value_heads", [None, 2])
def test_parameters_are_those_of_the_model(tied: bool, key_value_heads: int | None) -> None:
    size = ModelSize(
        vocabulary=300,
        hidden=16,
        layers=3,
        heads=4,
        feed_forward=24,
        tied_embeddings=tied,
        key_value_heads=key_value_heads,
    )
    settings = PretrainSettings.model_validate(
        {
            "text": {"kind": "demo", "phases": {1: {"pairs": "all"}}},
            "steps": {1: 1},
            "saved_steps": [1],
            "model": size.model_dump(),
        }
    )
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads or 4,
        intermediate_size=24,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert costs.pretrained_parameters(settings.model) == sum(p.numel() for p in model.parameters())


def test_depth_and_width_are_exact_or_near(tmp_path: Path) -> None:
    assert costs.depth_and_width(tiny_study(tmp_path), "small") == (2, 16)
    layers, width = costs.depth_and_width(load_study(STUDIES / "koerner2026.yaml"), "eurollm-1.7b")
    assert layers == pytest.approx(24, rel=0.3)
    assert width == pytest.approx(2048, rel=0.3)


def test_states_of_the_paper_take_the_disk_that_they_take() -> None:
    """71 pairs x 256 concepts x 24 layers x 2,048 numbers of 2 bytes."""
    cost = costs.states_cost(load_study(STUDIES / "koerner2026.yaml"), "eurollm-1.7b")
    assert cost.disk_bytes == pytest.approx(71 * 256 * 24 * 2048 * 2, rel=0.5)
    assert cost.gpus == 1


def test_requests_grow_with_attempts() -> None:
    cost = costs.Cost(operations=3.6e17, memory_mb=1000, disk_bytes=0, gpus=1)
    assert cost.hours == pytest.approx(1, rel=0.01)
    assert [cost.requested_memory_mb(attempt) for attempt in (1, 2, 3)] == [1000, 1500, 2250]
    first, second = (cost.runtime_minutes(attempt) for attempt in (1, 2))
    assert 240 < first < 260
    assert second == 2 * first


def test_reference_mode_costs_more(tmp_path: Path) -> None:
    fast = costs.patching_cost(tiny_study(tmp_path), "local")
    slow = costs.patching_cost(
        tiny_study(tmp_path, lambda s: s["concepts"].update(mode="reference")), "local"
    )
    assert slow.operations > fast.operations


def test_only_downloads_take_disk_to_fetch(tmp_path: Path) -> None:
    assert costs.checkpoint_cost(tiny_study(tmp_path), "small").disk_bytes == 0
    assert costs.checkpoint_cost(tiny_study(tmp_path), "local").disk_bytes == 0
    bloom = load_study(STUDIES / "bloom-560m.yaml")
    assert costs.checkpoint_cost(bloom, "bloom-560m").disk_bytes == 4 * 560_000_000


def test_pretraining_saves_weights_at_every_step(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    parameters = costs.parameters_of(study, "small")
    assert costs.pretraining_cost(study, "small").disk_bytes == 2 * 4 * parameters
