"""One unpatched pass over prompts that keeps what patches of their last position need.

Prompts are padded on the right: then no token sees padding before it, and the ordinary causal
product, the fastest there is, serves prompts of any length. The last block runs on last tokens
alone, and no logits but theirs are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.blocks import AttentionCall, BlockRunner
from glossogenesis.models.padding import batches_by_length
from glossogenesis.models.shared_attention import (
    Context,
    RowLayout,
    attend_causal,
    attend_shared,
)
from glossogenesis.patching.component_hooks import recording
from glossogenesis.patching.component_rows import ComponentValues, Outputs, check_prompts


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one pass, padded on the right."""

    token_ids: Tensor
    """`[prompt, column]`, int64; padding is token 0."""
    last: Tensor
    """`[prompt]`, int64: column, and position, of each prompt's last token."""

    @classmethod
    def of(cls, token_ids: Sequence[Sequence[int]], device: torch.device) -> PromptBatch:
        """Pad prompts to the longest."""
        width = max(len(ids) for ids in token_ids)
        padded = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in token_ids])
        last = torch.tensor([len(ids) - 1 for ids in token_ids])
        return cls(padded.to(device), last.to(device))

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return self.token_ids.shape[0]

    @property
    def width(self) -> int:
        """Length of the longest prompt."""
        return self.token_ids.shape[1]

    def at_last(self, states: Tensor) -> Tensor:
        """From `[prompt, column, ...]` to each prompt's last token, `[prompt, ...]`."""
        return states[torch.arange(self.n_prompts, device=states.device), self.last]


@dataclass(frozen=True)
class LastPosition:
    """What an unpatched pass leaves for runs that differ in the last position alone."""

    states: Tensor
    """`[layer + 1, prompt, d_model]`: the last position entering each block and leaving the last"""
    contexts: Sequence[Context]
    """For each layer, keys and values of the tokens before the last, `[prompt, kv_head, column,
    head_dim]`, their ends aligned; empty where they were not kept."""
    valid: Tensor | None
    """`[prompt, column]` of the contexts, False at padding; None where no prompt is padded."""


def run_unpatched(runner: BlockRunner, batch: PromptBatch, *, keep_contexts: bool) -> LastPosition:
    """Run prompts unpatched; within `runner.attending()`."""
    n_layers = runner.anatomy.n_layers
    columns = torch.arange(batch.width, device=batch.last.device)
    positions = runner.positions(columns.expand(batch.n_prompts, -1))
    ends = _Ends.of(batch)
    contexts: list[Context] = []

    def attend(call: AttentionCall) -> Tensor:
        if keep_contexts:
            contexts.append(ends.align(call.key, call.value))
        return attend_causal(call, None)

    hidden = runner.embed(batch.token_ids, positions)
    states = [batch.at_last(hidden)]
    for layer in range(n_layers - 1):
        hidden = runner.run(layer, hidden, positions, attend)
        states.append(batch.at_last(hidden))
    context = ends.align(*runner.project(n_layers - 1, hidden, positions))
    contexts.append(context)
    each_its_own = RowLayout(batch.n_prompts, 1, None, None)

    def attend_last(call: AttentionCall) -> Tensor:
        own = Context(call.key, call.value)
        return attend_shared(call, context, own, each_its_own, ends.valid)

    at_last = runner.positions(batch.last[:, None])
    leaving = runner.run(n_layers - 1, states[-1][:, None], at_last, attend_last)
    return LastPosition(
        states=torch.stack([*states, leaving[:, 0]]),
        contexts=contexts if keep_contexts else (),
        valid=ends.valid,
    )


@torch.inference_mode()
def capture_at_last(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    *,
    outputs: Outputs,
    batch_size: int,
    added: ComponentValues | None = None,
) -> tuple[ComponentValues, Tensor]:
    """See `component_runs.capture_components`."""
    check_prompts(anatomy, token_ids)
    runner = BlockRunner(anatomy)
    values = ComponentValues.empty(anatomy, len(token_ids))
    logits = torch.empty(len(token_ids), anatomy.config.num_labels)
    with runner.attending():
        for prompts in batches_by_length([len(ids) for ids in token_ids], batch_size):
            batch = PromptBatch.of([token_ids[prompt] for prompt in prompts], anatomy.device)
            with (
                recording(anatomy, outputs, batch.last) as recorded,
                recording(anatomy, "added", batch.last) as recorded_added,
            ):
                unpatched = run_unpatched(runner, batch, keep_contexts=False)
            values.put(prompts, recorded, unpatched.states[0])
            if added is not None:
                added.put(prompts, recorded_added, unpatched.states[0])
            logits[prompts] = anatomy.logits(unpatched.states[-1]).float().cpu()
    return values, logits


@dataclass(frozen=True)
class _Ends:
    """Moves keys and values so that prompts' last tokens align, and leaves these out.

    A row's own token then directly follows what it shares, whatever its prompt's length, as
    `attend_shared` wants it.
    """

    columns: Tensor | None
    """`[prompt, column]`: where each column comes from; None where all prompts are equally long."""
    valid: Tensor | None

    @classmethod
    def of(cls, batch: PromptBatch) -> _Ends:
        shift = batch.width - 1 - batch.last
        if not bool(shift.any()):
            return cls(None, None)
        columns = torch.arange(batch.width - 1, device=shift.device) - shift[:, None]
        return cls(columns.clamp(min=0), columns >= 0)

    def align(self, key: Tensor, value: Tensor) -> Context:
        """Keys and values `[prompt, kv_head, column, head_dim]` of the tokens before the last."""
        return Context(self._moved(key), self._moved(value))

    def _moved(self, tensor: Tensor) -> Tensor:
        if self.columns is None:
            return tensor[:, :, :-1].contiguous()
        prompts = torch.arange(len(tensor), device=tensor.device)[:, None]
        # Heads come last but one while columns are picked, as they lie in memory.
        return tensor.transpose(1, 2)[prompts, self.columns].transpose(1, 2).contiguous()
