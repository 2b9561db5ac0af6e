"""All patched runs of some prompts at once, computing only what a patch can change.

A patch from start layer `j` at position `p` changes nothing before `p`, and after `p` nothing up to
block `j`. So a row (one setting, one start layer, one prompt) is only the tokens after `p`. It
joins at block `j + 1` with the unpatched states of block `j`, and attends to the prompt's unpatched
prefix, to the key and value of the patched state at `p`, and to itself. The result equals the full
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.blocks import AttentionCall, BlockRunner
from glossogenesis.models.shared_attention import Context, RowLayout, attend_shared
from glossogenesis.patching.prefill import Prefill


@dataclass(frozen=True)
class Sweep:
    """The patched runs of some prompts, up to the first answer token."""

    last: Tensor
    """Last layer's output at the last token, `[start_layer, setting, prompt, d_model]`."""
    own: Sequence[Context]
    """For each layer, keys and values of kept rows: the patched position, the suffix, then room for
    new tokens, `[row, kv_head, token, head_dim]`, in the order start layer, setting, prompt."""


def sweep(
    runner: BlockRunner,
    before: Prefill,
    patches: Tensor,
    start_layers: Sequence[int],
    *,
    keep: Sequence[int] = (),
    room: int = 0,
) -> Sweep:
    """Run every setting from every start layer; within `runner.attending()`.

    Args:
        runner: the model's blocks.
        before: the unpatched prompts.
        patches: `[setting, prompt, layer, d_model]`.
        start_layers: ascending, below the last layer; patching the last alone changes no answer.
        keep: start layers whose rows generate afterwards: their keys and values are kept.
        room: tokens that kept keys and values can take up beyond the suffix.
    """
    anatomy = runner.anatomy
    ids = before.position_ids[:, before.patched_column :].repeat(patches.shape[0], 1)
    at_patch = runner.positions(ids[:, :1])
    after_patch = runner.positions(ids[:, 1:].repeat(len(start_layers), 1))
    hidden = before.suffix[0][:0]
    own: list[Context] = []
    for layer in range(anatomy.n_layers):
        if layer - 1 in start_layers:
            joining = before.suffix[layer - 1].repeat(patches.shape[0], 1, 1)
            hidden = torch.cat([hidden, joining])
        active = [start for start in start_layers if start < layer]
        if not active:
            own.append(before.contexts[layer].tokens(0, 0))
            continue
        patched = runner.project(layer, patches[:, :, layer - 1].flatten(0, 1)[:, None], at_patch)
        product = _SuffixProduct(Context(*patched), before, layer, len(active), room)
        positions = after_patch.rows(slice(0, len(hidden)))
        if layer == anatomy.n_layers - 1:
            # Of the other tokens, only keys and values are still needed.
            product.take(*runner.project(layer, hidden, positions))
            hidden, positions = hidden[:, -1:], positions.last(1)
        hidden = runner.run(layer, hidden, positions, product.attend)
        own.append(product.kept([index for index, start in enumerate(active) if start in keep]))
    last = hidden[:, -1].view(len(start_layers), *patches.shape[:2], anatomy.d_model)
    return Sweep(last=last, own=own)


class _SuffixProduct:
    """Attention of one block's rows, and what it leaves behind for generation."""

    def __init__(
        self, patched: Context, before: Prefill, layer: int, n_start_layers: int, room: int
    ) -> None:
        self._patched = patched
        self._prefix = before.contexts[layer].tokens(0, before.patched_column)
        self._valid = None if before.valid is None else before.valid[:, : before.patched_column]
        self._n_start_layers = n_start_layers
        n_slots = n_start_layers * patched.key.shape[0] // before.n_prompts
        self._layout = RowLayout(before.n_prompts, n_slots, None, None)
        self._room = room
        self._own: Context | None = None
        self._n_own = 0

    def take(self, key: Tensor, value: Tensor) -> None:
        """Keys and values `[row, kv_head, suffix, head_dim]` of the rows' own tokens."""
        self._n_own = 1 + key.shape[2]
        self._own = Context(
            self._with_patched(self._patched.key, key),
            self._with_patched(self._patched.value, value),
        )

    def attend(self, call: AttentionCall) -> Tensor:
        """See `attend_shared`; takes the call's keys and values where none were taken before."""
        if self._own is None:
            self.take(call.key, call.value)
        assert self._own is not None
        own = self._own.tokens(0, self._n_own)
        return attend_shared(call, self._prefix, own, self._layout, self._valid)

    def kept(self, start_layers: Sequence[int]) -> Context:
        """Keys and values of the rows of some of the active start layers, by index."""
        assert self._own is not None, "attend comes first"
        if len(start_layers) == self._n_start_layers:
            return self._own
        chosen = [
            tensor.unflatten(0, (self._n_start_layers, -1))[list(start_layers)].flatten(0, 1)
            for tensor in (self._own.key, self._own.value)
        ]
        return Context(*chosen)

    def _with_patched(self, patched: Tensor, suffix: Tensor) -> Tensor:
        """Put the patched position, shared by all start layers, before each row's suffix."""
        rows, kv_heads, tokens, head_dim = suffix.shape
        own = suffix.new_empty(rows, kv_heads, 1 + tokens + self._room, head_dim)
        own.unflatten(0, (self._n_start_layers, -1))[:, :, :, :1] = patched
        own[:, :, 1 : 1 + tokens] = suffix
        return own
