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

from torch import Tensor

from glossogenesis.models.blocks import Attend, AttentionCall, BlockRunner
from glossogenesis.models.prefill import Prefill
from glossogenesis.models.shared_attention import Context, RowLayout


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
        before: the unpatched prompts; the patched position is the first of their last tokens.
        patches: `[setting, prompt, layer, d_model]`.
        start_layers: ascending, below the last layer; patching the last alone changes no answer.
        keep: start layers whose rows generate afterwards: their keys and values are kept.
        room: tokens that kept keys and values can take up beyond the suffix.
    """
    n_settings, n_prompts = patches.shape[:2]
    ids = before.last_positions.repeat(n_settings, 1)
    at_patch = runner.positions(ids[:, :1])
    after_patch = runner.positions(ids[:, 1:].repeat(len(start_layers), 1))
    own = [before.contexts[layer].tokens(0, 0) for layer in range(runner.anatomy.n_layers)]

    def joining(layer: int) -> Tensor:
        suffix = before.streams[layer - 1][:, 1:]
        return suffix.repeat(n_settings if layer - 1 in start_layers else 0, 1, 1)

    def attend_at(layer: int, n_rows: int) -> Attend:
        patched_states = patches[:, :, layer - 1].flatten(0, 1)[:, None]
        patched = Context(*runner.project(layer, patched_states, at_patch))
        kept = [index for index, start in enumerate(start_layers) if start in keep]
        layout = RowLayout(n_prompts, n_rows // n_prompts, None, None)

        def attend(call: AttentionCall) -> Tensor:
            n_own = 1 + call.key.shape[2]
            rows = Context(
                _with_patched(patched.key, call.key, room),
                _with_patched(patched.value, call.value, room),
            )
            own[layer] = _of_start_layers(rows, kept, n_rows // len(patched_states))
            return before.attend(layer, call, rows.tokens(0, n_own), layout, after=n_own)

        return attend

    hidden = runner.run_rest(joining, after_patch, attend_at, lambda states: states[:, -1:])
    last = hidden[:, -1].view(len(start_layers), n_settings, n_prompts, hidden.shape[-1])
    return Sweep(last, own)


def _with_patched(patched: Tensor, suffix: Tensor, room: int) -> Tensor:
    """Put the patched position, shared by all start layers, before each row's suffix."""
    rows, kv_heads, tokens, head_dim = suffix.shape
    own = suffix.new_empty(rows, kv_heads, 1 + tokens + room, head_dim)
    own.unflatten(0, (-1, len(patched)))[:, :, :, :1] = patched
    own[:, :, 1 : 1 + tokens] = suffix
    return own


def _of_start_layers(rows: Context, wanted: Sequence[int], n_start_layers: int) -> Context:
    """Keys and values of the rows of some start layers, by index, of those that have joined."""
    chosen = [index for index in wanted if index < n_start_layers]
    if len(chosen) == n_start_layers:
        return rows
    key, value = (
        tensor.unflatten(0, (n_start_layers, -1))[chosen].flatten(0, 1)
        for tensor in (rows.key, rows.value)
    )
    return Context(key, value)
