"""What stages of the features study ask for: grows with what it should grow with."""

from __future__ import annotations

from pathlib import Path

import pytest

from glossogenesis.study.study import Study
from glossogenesis.workflow import costs, jobs_features
from support.tiny_features_study import tiny_features_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return tiny_features_study(tmp_path)


def test_bytes_of_a_cache_are_tokens_times_layers_times_a_row(study: Study) -> None:
    width = study.settings.pretrain["small"].model.hidden
    a_row = 2 * width + jobs_features.BYTES_OF_IDS
    assert jobs_features.activation_bytes(study, "small") == (2000 + 400) * 2 * a_row
    assert jobs_features.activations_cost(study, "small").disk_bytes == (2000 + 400) * 2 * a_row


def test_streaming_stores_held_out_activations_alone(tmp_path: Path) -> None:
    cached = tiny_features_study(tmp_path)
    streamed = tiny_features_study(
        tmp_path, lambda content: content["features"].update(activations={"mode": "stream"})
    )
    share = jobs_features.activation_bytes(streamed, "local") / jobs_features.activation_bytes(
        cached, "local"
    )
    assert share == pytest.approx(400 / 2400, rel=1e-3)


def test_the_whole_grid_of_the_paper_is_as_large_as_its_reference_says() -> None:
    """Reference: 100 million tokens x 1,572 setups in bfloat16 are 586 TB, ids not counted."""
    widths = {512: 12 * 16, 1024: 16 * 16, 1536: 20 * 16, 2048: 24 * 16, 3072: 28 * 15}
    assert sum(widths.values()) == 1572
    assert sum(1e8 * 2 * width * setups for width, setups in widths.items()) == pytest.approx(
        586e12, rel=1e-2
    )


def test_training_asks_for_weights_gradients_and_moments_of_every_rate(study: Study) -> None:
    one = jobs_features.training_cost(study, "local", "wide", 1)
    _, width = costs.depth_and_width(study, "local")
    # Three numbers a weight and rate; all rates share the gradients.
    state = (3 * 3 + 1) * 4 * 2 * 8 * width**2
    assert one.memory_mb > jobs_features.LIGHT_PROGRAM_MB + state / 1e6


def test_streaming_trains_layers_together_and_runs_the_model_beside_them(tmp_path: Path) -> None:
    cached = tiny_features_study(tmp_path)
    streamed = tiny_features_study(
        tmp_path, lambda content: content["features"].update(activations={"mode": "stream"})
    )
    first, other = (
        jobs_features.training_cost(study, "local", "wide", 3) for study in (cached, streamed)
    )
    assert other.operations > first.operations
    # Three layers' weights and moments at three rates, where a cache's layers take turns.
    _, width = costs.depth_and_width(streamed, "local")
    state = 3 * 3 * 4 * 2 * 8 * width**2
    alone = jobs_features.training_cost(streamed, "local", "wide", 1)
    assert other.memory_mb - alone.memory_mb >= 2 * state // 10**6


def test_every_cost_asks_for_some_memory_and_time(study: Study) -> None:
    made = [
        jobs_features.corpus_cost(study),
        jobs_features.quality_cost(study, "local", "topk", 2),
        jobs_features.collection_cost(study, "local", "topk", 2),
        jobs_features.matching_cost(study, "local", "topk", 2),
        jobs_features.recovery_cost(study, "local", "topk"),
        jobs_features.injection_cost(study),
        jobs_features.embeddings_cost(study, "local"),
    ]
    for cost in made:
        assert cost.requested_memory_mb() >= jobs_features.LIGHT_PROGRAM_MB
        assert cost.runtime_minutes() >= costs.MINUTES_TO_START


def test_a_block_of_layers_is_done_one_after_the_other(study: Study) -> None:
    for cost_of in (
        jobs_features.training_cost,
        jobs_features.quality_cost,
        jobs_features.collection_cost,
        jobs_features.matching_cost,
    ):
        one, three = (cost_of(study, "local", "topk", layers) for layers in (1, 3))
        assert three.operations == 3 * one.operations
        assert three.disk_bytes == 3 * one.disk_bytes
        # What one layer needs for a while is there for the next.
        assert three.memory_mb == one.memory_mb
        assert three.scratch_bytes == one.scratch_bytes


def test_seeds_are_compared_with_the_first(study: Study) -> None:
    one = jobs_features.matching_cost(study, "local", "topk", 1)
    others = len(study.features.saes["topk"].seeds) - 1
    assert jobs_features.seeds_cost(study, "local", "topk", 1).operations == others * one.operations
