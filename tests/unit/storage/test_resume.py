"""The state of an unfinished training on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from glossogenesis.storage.tensors import ResumeState, StateKeeper

TENSORS = {"0/w": torch.randn(3, 4), "0/steps": torch.tensor(5)}
FACTS = {"rows": [{"loss": 0.1 + 0.2}], "threshold": None}


def test_a_state_comes_back_exactly(tmp_path: Path) -> None:
    state = ResumeState(tmp_path, "abc")
    state.save(TENSORS, FACTS)
    found = state.load()
    assert found is not None
    assert found[1] == FACTS
    assert all(torch.equal(found[0][name], tensor) for name, tensor in TENSORS.items())


def test_there_is_none_for_another_training_or_where_it_is_damaged(tmp_path: Path) -> None:
    state = ResumeState(tmp_path, "abc")
    assert state.load() is None
    state.save(TENSORS, FACTS)
    assert ResumeState(tmp_path, "def").load() is None
    state.path.write_bytes(state.path.read_bytes()[:50])
    assert state.load() is None


def test_removing_takes_away_states_that_were_given_up(tmp_path: Path) -> None:
    folder = tmp_path / "resume"
    ResumeState(folder, "old").save(TENSORS, FACTS)
    state = ResumeState(folder, "new")
    state.save(TENSORS, FACTS)
    state.remove()
    assert not folder.exists()
    state.remove()


def test_a_state_is_kept_only_when_it_is_time(tmp_path: Path) -> None:
    state = ResumeState(tmp_path, "abc")
    StateKeeper(state, 1000.0).keep_if_due(lambda: (TENSORS, FACTS))
    assert not state.path.exists()
    StateKeeper(state, 0.0).keep_if_due(lambda: (TENSORS, FACTS))
    assert state.path.exists()
