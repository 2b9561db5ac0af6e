"""Phases and contexts of training steps."""

import pytest

from glossogenesis.study.pretrain import PretrainSettings, context_at, phase_of

SETTINGS = PretrainSettings.model_validate(
    {
        "text": {"kind": "demo", "phases": {1: {"pairs": "pivot"}, 2: {"pairs": "all"}}},
        "steps": {1: 4, 2: 6},
        "saved_steps": [0, 4, 10],
        "short_contexts": [{"context": 32, "steps": 2}, {"context": 64, "steps": 3}],
    }
)


def test_phases_end_where_their_steps_do() -> None:
    assert [phase_of(SETTINGS, step) for step in (0, 1, 4, 5, 10)] == [1, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="step 11 is beyond the last, 10"):
        phase_of(SETTINGS, 11)


def test_short_contexts_come_first() -> None:
    assert [context_at(SETTINGS, step) for step in (1, 2, 3, 5, 6)] == [32, 32, 64, 64, 128]
