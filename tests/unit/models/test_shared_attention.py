"""Shared-prefix attention against attention over copies of the prefix, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glossogenesis.models.blocks import AttentionCall, Context
from glossogenesis.models.shared_attention import RowLayout, attend_causal, attend_shared

N_PROMPTS, KV_HEADS, GROUPS, HEAD_DIM = 3, 2, 3, 4


def _call(n_rows: int, n_tokens: int, **kind: object) -> AttentionCall:
    generator = torch.Generator().manual_seed(n_rows)

    def states(heads: int) -> Tensor:
        return torch.randn(n_rows, heads, n_tokens, HEAD_DIM, generator=generator)

    settings = {"scaling": 0.7, "softcap": None, "window": None, "slopes": None} | kind
    return AttentionCall(
        query=states(KV_HEADS * GROUPS), key=states(KV_HEADS), value=states(KV_HEADS), **settings
    )


def _plain(call: AttentionCall, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """Attention of one row: keys `[kv_head, token, head_dim]`, seen `[query, token]`."""
    keys, values = (t.repeat_interleave(GROUPS, dim=0) for t in (keys, values))
    scores = call.scaling * call.query[0] @ keys.transpose(1, 2)
    if call.softcap is not None:
        scores = call.softcap * (scores / call.softcap).tanh()
    if call.slopes is not None:
        scores = scores + call.slopes[:, None, None] * torch.arange(keys.shape[1])
    return scores.masked_fill(~seen, float("-inf")).softmax(dim=-1) @ values


def _row(call: AttentionCall, row: int) -> AttentionCall:
    part = slice(row, row + 1)
    return AttentionCall(
        call.query[part],
        call.key[part],
        call.value[part],
        call.scaling,
        call.softcap,
        call.window,
        call.slopes,
    )


def _seen(n_queries: int, n_keys: int, window: int | None) -> Tensor:
    keys = torch.arange(n_keys)
    queries = keys[-n_queries:, None]
    return (keys <= queries) & (keys > queries - (window or n_keys))


KINDS: list[dict[str, object]] = [
    {},
    {"softcap": 1.5},
    {"window": 4},
    {"window": 1},
    {"slopes": torch.linspace(0.1, 0.9, KV_HEADS * GROUPS)},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompts", [[0, 1, 2, 0, 1, 2], [2, 0, 0, 2, 0], [1]])
@pytest.mark.parametrize("padded", [False, True])
def test_equals_copied_prefixes(kind: dict[str, object], prompts: list[int], padded: bool) -> None:
    n_shared, n_earlier, n_queries = 6, 1, 2
    call = _call(len(prompts), n_queries, **kind)
    shared_call, earlier = _call(N_PROMPTS, n_shared), _call(len(prompts), n_earlier)
    shared = Context(shared_call.key, shared_call.value)
    own = Context(
        torch.cat([earlier.key, call.key], dim=2), torch.cat([earlier.value, call.value], dim=2)
    )
    valid = torch.ones(N_PROMPTS, n_shared, dtype=torch.bool)
    valid[1, :3] = not padded
    layout = RowLayout.of(prompts, N_PROMPTS, torch.device("cpu"))
    given = attend_shared(call, shared, own, layout, valid if padded else None)
    seen = _seen(n_queries, n_shared + n_earlier + n_queries, call.window)
    for row, prompt in enumerate(prompts):
        not_padding = torch.cat([valid[prompt], torch.ones(n_earlier + n_queries).bool()])
        expected = _plain(
            _row(call, row),
            torch.cat([shared.key[prompt], own.key[row]], dim=1),
            torch.cat([shared.value[prompt], own.value[row]], dim=1),
            seen & not_padding,
        )
        torch.testing.assert_close(given[row], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [False, True])
def test_causal(kind: dict[str, object], padded: bool) -> None:
    call = _call(2, 7, **kind)
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, :2] = not padded
    given = attend_causal(call, valid if padded else None)
    assert given.isfinite().all()
    for row in range(2):
        seen = _seen(7, 7, call.window) & (valid[row] | torch.eye(7).bool())
        expected = _plain(_row(call, row), call.key[row], call.value[row], seen)
        start = 2 if padded and row == 1 else 0
        torch.testing.assert_close(given[row, :, start:], expected[:, start:])


@pytest.mark.parametrize("prompts", [[0, 1, 2, 0, 1, 2], [2, 0, 0, 2, 0], [1]])
def test_layout_round_trip(prompts: list[int]) -> None:
    layout = RowLayout.of(prompts, N_PROMPTS, torch.device("cpu"))
    rows = torch.randn(len(prompts), 2, 3, 4, 5)
    gathered = layout.by_prompt(rows)
    assert gathered.shape == (N_PROMPTS, 2, layout.n_slots, 3, 4, 5)
    assert torch.equal(layout.by_row(gathered), rows)
    for row, prompt in enumerate(prompts):
        slot = prompts[:row].count(prompt)
        assert torch.equal(gathered[prompt, :, slot], rows[row])
