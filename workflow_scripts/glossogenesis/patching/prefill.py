"""One unpatched pass over target prompts that keeps all that patched runs reuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.blocks import AttentionCall, BlockRunner, Positions
from glossogenesis.models.padding import pad_left
from glossogenesis.models.shared_attention import (
    Context,
    RowLayout,
    attend_causal,
    attend_shared,
)
from glossogenesis.patching.engine import PatchPrompt


@dataclass(frozen=True)
class Prefill:
    """Unpatched prompts of equal suffix length, padded on the left: patched columns align."""

    contexts: Sequence[Context]
    """For each layer, keys and values `[prompt, kv_head, column, head_dim]`."""
    suffix: Sequence[Tensor]
    """For each layer, its output after the patched position, `[prompt, suffix, d_model]`."""
    own_states: Tensor
    """Layer outputs at the patched position, `[prompt, layer, d_model]`."""
    valid: Tensor | None
    """`[prompt, column]`, False at padding; None where no prompt is padded."""
    position_ids: Tensor
    """`[prompt, column]`"""

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return self.position_ids.shape[0]

    @property
    def n_columns(self) -> int:
        """Length of the longest prompt."""
        return self.position_ids.shape[1]

    @property
    def suffix_length(self) -> int:
        """Number of tokens after the patched position."""
        return self.suffix[0].shape[1]

    @property
    def patched_column(self) -> int:
        """Column of the patched position: the number of columns before it."""
        return self.n_columns - self.suffix_length - 1


def prefill(runner: BlockRunner, prompts: Sequence[PatchPrompt]) -> Prefill:
    """Run prompts of equal suffix length unpatched; within `runner.attending()`."""
    padded = pad_left([prompt.token_ids for prompt in prompts], runner.anatomy.device)
    valid = None if bool(padded.mask.all()) else padded.mask.bool()
    positions = runner.positions(padded.position_ids)
    n_kept = 1 + prompts[0].suffix_length
    contexts: list[Context] = []
    kept: list[Tensor] = []

    def attend(call: AttentionCall) -> Tensor:
        contexts.append(Context(call.key.contiguous(), call.value.contiguous()))
        return attend_causal(call, valid)

    hidden = runner.embed(padded.token_ids, positions)
    for layer in range(runner.anatomy.n_layers - 1):
        hidden = runner.run(layer, hidden, positions, attend)
        kept.append(hidden[:, -n_kept:].clone())
    context, hidden = _last_block(runner, hidden, positions, valid, n_kept)
    contexts.append(context)
    kept.append(hidden)
    return Prefill(
        contexts=contexts,
        suffix=[states[:, 1:] for states in kept],
        own_states=torch.stack([states[:, 0] for states in kept], dim=1),
        valid=valid,
        position_ids=padded.position_ids,
    )


def _last_block(
    runner: BlockRunner, hidden: Tensor, positions: Positions, valid: Tensor | None, n_kept: int
) -> tuple[Context, Tensor]:
    """Keys and values of all tokens, but the output of the last `n_kept` alone."""
    layer = runner.anatomy.n_layers - 1
    key, value = runner.project(layer, hidden, positions)
    context = Context(key.contiguous(), value.contiguous())
    n_before = hidden.shape[1] - n_kept
    each_its_own = RowLayout(n_prompts=len(hidden), n_slots=1, gather=None, scatter=None)

    def attend(call: AttentionCall) -> Tensor:
        return attend_shared(
            call,
            context.tokens(0, n_before),
            context.tokens(n_before, n_before + n_kept),
            each_its_own,
            None if valid is None else valid[:, :n_before],
        )

    return context, runner.run(layer, hidden[:, -n_kept:], positions.last(n_kept), attend)
