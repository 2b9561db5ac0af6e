"""How runs of unequal starts and lengths are divided into batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glossogenesis.robustness.knockout.knockout import batches_of_runs

POSTS = st.lists(
    st.integers(1, 90).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))), max_size=60
)


@given(POSTS, st.integers(1, 400))
def test_every_run_once_and_no_batch_above_its_bound(
    runs: list[tuple[int, int]], tokens: int
) -> None:
    starts = torch.tensor([start for start, _ in runs], dtype=torch.int64)
    lengths = torch.tensor([length for _, length in runs], dtype=torch.int64)
    batches = list(batches_of_runs(starts, lengths, tokens))
    assert sorted(run for batch in batches for run in batch.tolist()) == list(range(len(runs)))
    for batch in batches:
        width = int(lengths[batch].max() - starts[batch].min())
        assert len(batch) == 1 or len(batch) * width <= tokens


@pytest.mark.parametrize(("tokens", "expected"), [(40, [[0, 1, 3], [2, 4]]), (4, 5 * [1])])
def test_late_starts_go_together(tokens: int, expected: list[object]) -> None:
    starts, lengths = torch.tensor([0, 2, 32, 1, 33]), torch.tensor([10, 10, 40, 9, 36])
    batches = [sorted(batch.tolist()) for batch in batches_of_runs(starts, lengths, tokens)]
    assert (batches if tokens == 40 else [len(batch) for batch in batches]) == expected
