"""Attention of many rows to one copy of their prompt's keys and values.

Rows that continue the same prompt share its cached prefix: the queries of all of them go through
one matrix product with it, so keys and values are never copied for a row. Only what differs between
rows (the patched position and the tokens after it) is kept row by row. Both parts go through one
softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from glossogenesis.models.blocks import AttentionCall, Context


@dataclass(frozen=True)
class RowLayout:
    """Which prompt each row continues, and how rows are gathered prompt by prompt.

    Rows are dense where row `i` continues prompt `i % n_prompts`; then gathering is a mere
    permutation. Else each prompt has as many slots as the one with most rows, and unused slots
    repeat row 0, whose result there is never read.
    """

    n_prompts: int
    n_slots: int
    gather: Tensor | None
    """`[prompt * slot]`: the row in each slot; None where dense."""
    scatter: Tensor | None
    """`[row]`: the slot of each row; None where dense."""

    @classmethod
    def each_its_own(cls, n_prompts: int) -> RowLayout:
        """The layout of one row per prompt."""
        return cls(n_prompts, 1, None, None)

    @classmethod
    def of(cls, prompts: Sequence[int], n_prompts: int, device: torch.device) -> RowLayout:
        """The layout of rows that continue the given prompts."""
        if len(prompts) % n_prompts == 0 and all(
            prompt == row % n_prompts for row, prompt in enumerate(prompts)
        ):
            return cls(n_prompts, len(prompts) // n_prompts, None, None)
        slots: list[int] = []
        counts = [0] * n_prompts
        for prompt in prompts:
            slots.append(counts[prompt])
            counts[prompt] += 1
        n_slots = max(counts)
        scatter = [p * n_slots + slot for p, slot in zip(prompts, slots, strict=True)]
        gather = [0] * (n_prompts * n_slots)
        for row, place in enumerate(scatter):
            gather[place] = row
        return cls(
            n_prompts,
            n_slots,
            torch.tensor(gather, device=device),
            torch.tensor(scatter, device=device),
        )

    def by_prompt(self, rows: Tensor) -> Tensor:
        """`[row, kv_head, group, token, x]` to `[prompt, kv_head, slot, group, token, x]`."""
        if self.gather is None:
            dense = rows.view(self.n_slots, self.n_prompts, *rows.shape[1:])
            return dense.permute(1, 2, 0, 3, 4, 5)
        slots = rows.index_select(0, self.gather)
        return slots.view(self.n_prompts, self.n_slots, *rows.shape[1:]).transpose(1, 2)

    def by_row(self, prompts: Tensor) -> Tensor:
        """The inverse of `by_prompt`."""
        if self.scatter is None:
            return prompts.permute(2, 0, 1, 3, 4, 5).flatten(0, 1)
        return prompts.transpose(1, 2).flatten(0, 1).index_select(0, self.scatter)


def attend_shared(
    call: AttentionCall, shared: Context, own: Context, layout: RowLayout, valid: Tensor | None
) -> Tensor:
    """Attend to a shared prefix and to what each row has for itself, in one softmax.

    The tokens of `own` directly follow those of `shared`, and the queries are the last tokens of
    `own`: a query sees all of `shared` and `own` up to itself, within the block's window.

    Args:
        call: queries `[row, head, query, head_dim]`.
        shared: one entry a prompt.
        own: one entry a row, queries included.
        layout: which prompt each row continues.
        valid: `[prompt, token]` of `shared`, False at padding; None without padding.

    Returns:
        `[row, head, query, head_dim]`
    """
    n_rows, n_heads, n_queries, head_dim = call.query.shape
    kv_heads, n_own = own.key.shape[1:3]
    n_shared = shared.key.shape[2]
    groups = n_heads // kv_heads
    query = (call.query * call.scaling).unflatten(1, (kv_heads, groups))
    by_prompt = layout.by_prompt(query).flatten(0, 1).flatten(1, 3)
    by_row = query.reshape(n_rows * kv_heads, groups * n_queries, head_dim)

    on_shared = by_prompt @ shared.key.flatten(0, 1).transpose(1, 2)
    on_own = by_row @ own.key.flatten(0, 1).transpose(1, 2)
    on_own = layout.by_prompt(on_own.view(n_rows, kv_heads, groups, n_queries, n_own))
    scores = torch.cat([on_shared.view(*on_own.shape[:5], n_shared), on_own], dim=-1)
    _mask(scores, call, n_shared, valid)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(call.query.dtype)

    flat = weights.view(layout.n_prompts * kv_heads, -1, n_shared + n_own)
    from_shared = flat[..., :n_shared] @ shared.value.flatten(0, 1)
    own_weights = layout.by_row(weights[..., n_shared:]).reshape(*by_row.shape[:2], n_own)
    attended = (own_weights @ own.value.flatten(0, 1)).view(query.shape)
    attended += layout.by_row(from_shared.view(*on_own.shape[:5], head_dim))
    return attended.flatten(1, 2)


def attend_causal(call: AttentionCall, valid: Tensor | None) -> Tensor:
    """Attend to a row's own tokens up to each query, as in an ordinary forward pass.

    Padding sees itself, so that it stays finite.

    Args:
        call: queries, keys and values of the same tokens.
        valid: `[row, token]`, False at padding; None without padding.

    Returns:
        `[row, head, token, head_dim]`
    """
    n_tokens = call.query.shape[2]
    grouped = call.query.shape[1] != call.key.shape[1]
    simple = valid is None and call.slopes is None and call.softcap is None
    if simple and (call.window is None or call.window >= n_tokens):
        return scaled_dot_product_attention(
            call.query,
            call.key,
            call.value,
            is_causal=True,
            scale=call.scaling,
            enable_gqa=grouped,
        )
    kv_heads = call.key.shape[1]
    query = (call.query * call.scaling).unflatten(1, (kv_heads, -1))
    scores = query @ call.key[:, :, None].transpose(-1, -2)
    _mask(scores[:, :, None], call, 0, None)
    if valid is not None:
        itself = torch.eye(n_tokens, dtype=torch.bool, device=valid.device)
        seen = valid[:, None, None, None] | itself
        scores = scores.masked_fill_(~seen, float("-inf"))
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(call.query.dtype)
    attended: Tensor = (weights @ call.value[:, :, None]).flatten(1, 2)
    return attended


def _mask(scores: Tensor, call: AttentionCall, n_shared: int, valid: Tensor | None) -> None:
    """Apply soft cap, ALiBi, causality, window and padding to scores, in place.

    `scores` are `[prompt, kv_head, slot, group, query, key]`, keys in the order of the tokens,
    `n_shared` shared ones first; the queries are the last tokens.
    """
    kv_heads, n_queries, n_keys = scores.shape[1], scores.shape[4], scores.shape[5]
    if call.softcap is not None:
        scores.div_(call.softcap).tanh_().mul_(call.softcap)
    keys = torch.arange(n_keys, device=scores.device)
    queries = keys[-n_queries:, None]
    if call.slopes is not None:
        # Only differences between keys matter, so columns may stand for positions.
        slopes = call.slopes.to(scores.device).view(kv_heads, 1, -1, 1, 1)
        scores += (slopes * (keys - n_keys + 1)).to(scores.dtype)
    if call.window is not None and call.window < n_keys:
        hidden = (keys > queries) | (keys <= queries - call.window)
        scores.masked_fill_(hidden, float("-inf"))
    elif n_queries > 1:
        own = scores[..., n_shared:]
        own.masked_fill_(keys[n_shared:] > queries, float("-inf"))
    if valid is not None:
        padding = ~valid[:, None, None, None, None]
        scores[..., :n_shared].masked_fill_(padding, float("-inf"))
