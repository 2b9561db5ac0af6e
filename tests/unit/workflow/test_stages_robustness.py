"""What stages of the robustness study ask for: grows with what it should grow with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glossogenesis.study.loading import load_study
from glossogenesis.workflow import costs
from glossogenesis.workflow import jobs_robustness as own
from support.tiny_robustness_study import POSTS, tiny_robustness_study

REPOSITORY = Path(__file__).parents[3]


def test_posts_of_files_are_counted_by_their_size(tmp_path: Path) -> None:
    train, held_out = own.number_of_posts(tiny_robustness_study(tmp_path))
    assert train + held_out == pytest.approx(len(POSTS) / own.BYTES_A_POST)
    assert held_out / (train + held_out) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("study", "train", "held_out"),
    [("config.yaml", 5 * 160, 5 * 50), ("resources/studies/showcase.yaml", 12 * 120, 12 * 60)],
)
def test_posts_of_the_demo_are_counted_exactly(study: str, train: int, held_out: int) -> None:
    assert own.number_of_posts(load_study(REPOSITORY / study)) == (train, held_out)


def test_reference_mode_costs_as_many_times_more_as_there_are_components(tmp_path: Path) -> None:
    def in_mode(mode: str) -> float:
        study = tiny_robustness_study(
            tmp_path, lambda content: content["robustness"].update(components={"mode": mode})
        )
        return own.components_cost(study, "local").operations

    depth, _ = costs.depth_and_width(tiny_robustness_study(tmp_path), "local")
    limit = (2 * depth + 2) / 2
    assert in_mode("reference") / in_mode("fast") == pytest.approx(limit, rel=0.05)


def test_caches_of_the_last_position_are_a_posts_length_smaller(tmp_path: Path) -> None:
    def positions(which: str) -> float:
        def change(content: dict[str, Any]) -> None:
            content["robustness"]["activations"] = {"positions": which}

        study = tiny_robustness_study(tmp_path, change)
        return own.post_activations_cost(study, "local").disk_bytes

    tokens = own.tokens_of_a_post(tiny_robustness_study(tmp_path))
    assert positions("all") / positions("last") == pytest.approx(tokens, rel=0.02)


def test_every_cost_asks_for_some_memory_and_time(tmp_path: Path) -> None:
    study = tiny_robustness_study(tmp_path)
    made = [
        own.posts_cost(study),
        own.baseline_cost(study),
        own.finetuning_cost(study, "local"),
        own.classification_cost(study, "local"),
        own.pairs_cost(study),
        own.circuit_cost(study, "local"),
        own.post_training_cost(study, "local", "l1"),
        own.label_features_cost(study, "local", "l1"),
        own.knockout_cost(study, "local", "l1"),
        own.variants_cost(study, "local", "l1"),
    ]
    for cost in made:
        assert cost.requested_memory_mb() > 500
        assert cost.runtime_minutes(2) == 2 * cost.runtime_minutes(1)
