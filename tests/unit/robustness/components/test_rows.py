"""Rows of component patching."""

from __future__ import annotations

import pytest
import torch

from glossogenesis.robustness.components.rows import ComponentRows

REPLACED = torch.tensor(
    [
        [[False, False], [False, False], [False, False]],
        [[False, False], [False, True], [True, True]],
        [[True, False], [False, False], [True, False]],
        [[False, False], [False, False], [False, True]],
    ]
)
ROWS = ComponentRows(
    prompts=torch.tensor([4, 5, 6, 7]),
    sources=torch.tensor([0, 1, 2, 3]),
    replaced=REPLACED,
    embedding=torch.tensor([False, False, False, False]),
)


def test_rows_join_at_their_first_replaced_block() -> None:
    assert ROWS.joins() == [3, 1, 0, 2]
    with_embedding = ComponentRows(ROWS.prompts, ROWS.sources, REPLACED, torch.ones(4) > 0)
    assert with_embedding.joins() == [0, 0, 0, 0]


def test_take_keeps_the_given_order() -> None:
    taken = ROWS.take([2, 0])
    assert taken.prompts.tolist() == [6, 4]
    assert taken.sources.tolist() == [2, 0]
    assert taken.joins() == [0, 3]
    assert len(ROWS.take([])) == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="4 prompts, 4 sources, 3 rows of `replaced`"):
        ComponentRows(ROWS.prompts, ROWS.sources, REPLACED[:3], ROWS.embedding)
    with pytest.raises(ValueError, match=r"not \[row, layer, 2\]"):
        ComponentRows(ROWS.prompts, ROWS.sources, REPLACED[:, :, :1], ROWS.embedding)
