"""Read prompts once and keep keys and values; then run what follows any block again.

What is put in place of a block's output changes no token before it. So a later run begins at the
block and the token that it changes, and attends to the kept keys and values of the tokens before.
In the last block, only tokens whose output is wanted have queries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glossogenesis.models.batches import PaddedBatch
from glossogenesis.models.blocks import Attend, AttentionCall, BlockRunner
from glossogenesis.models.shared_attention import (
    Context,
    RowLayout,
    attend_causal,
    attend_shared,
)


@dataclass(frozen=True)
class Prefill:
    """Prompts that a model has read, and what later runs of them reuse."""

    runner: BlockRunner
    lengths: Tensor
    """Tokens of each prompt `[prompt]`, int64."""
    n_last: int | None
    """Tokens of each prompt, its last, of which the last block gives an output; all where None."""
    streams: Mapping[int, Tensor]
    """Output of each wanted block, `[prompt, column, d_model]`; -1 stands for what enters the
    first. Of all columns but after the last block, or of the `n_last` tokens alone."""
    contexts: Mapping[int, Context]
    """Keys and values `[prompt, kv_head, column, head_dim]` of the blocks above the lowest wanted
    one."""
    valid: Tensor | None
    """`[prompt, column]` where prompts end in the last column, False at padding; else None."""
    output: Tensor
    """Of the last block, `[prompt, column, d_model]` or `[prompt, n_last, d_model]`."""

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return len(self.lengths)

    @property
    def last_positions(self) -> Tensor:
        """Positions of the last tokens, `[prompt, n_last]`."""
        assert self.n_last is not None
        return (self.lengths - self.n_last)[:, None] + torch.arange(
            self.n_last, device=self.lengths.device
        )

    def attend(
        self, layer: int, call: AttentionCall, own: Context, layout: RowLayout, *, after: int = 0
    ) -> Tensor:
        """Attention of rows that continue prompts whose ends align; see `attend_shared`.

        Args:
            layer: the block.
            call: queries of the rows.
            own: keys and values that each row has for itself.
            layout: which prompt each row continues.
            after: tokens at the end of every prompt that are not shared, as rows have their own.
        """
        shared = self.contexts[layer]
        n_shared = shared.key.shape[2] - after
        valid = None if self.valid is None else self.valid[:, :n_shared]
        return attend_shared(call, shared.tokens(0, n_shared), own, layout, valid)

    def resume(
        self, layer: int, hidden: Tensor, *, prompts: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """Run what follows a wanted block on another output of it.

        Prompts are those of a prefill that kept all columns, padded on the right.

        Args:
            layer: the block.
            hidden: its output, `[row, token, d_model]`, up to the longest prompt of the rows.
            prompts: `[row]`, which prompt each row is of; every prompt once where None.
            first: position of the rows' first token; those before it are as they were read.

        Returns:
            Output of the last block at the rows' `n_last` tokens, or at those of `hidden`.
        """
        last = self.runner.anatomy.n_layers - 1
        columns = torch.arange(first + hidden.shape[1], device=hidden.device)
        ends = None
        if self.n_last is not None:
            lengths = self.lengths if prompts is None else self.lengths[prompts]
            ends = Ends.of(columns < lengths[:, None], self.n_last)

        def attend_at(block: int, n_rows: int) -> Attend:
            def attend(call: AttentionCall) -> Tensor:
                at_end = ends if block == last else None
                if first == 0:
                    return attend_causal(call, None) if at_end is None else at_end.attend(call)
                whole = self.contexts[block]
                before = Context(whole.key[prompts, :, :first], whole.value[prompts, :, :first])
                if at_end is None:
                    own = Context(call.key, call.value)
                    return attend_shared(call, before, own, RowLayout.each_its_own(n_rows), None)
                key = torch.cat([before.key, call.key], dim=2)
                value = torch.cat([before.value, call.value], dim=2)
                return at_end.attend(replace(call, key=key, value=value))

            return attend

        with self.runner.attending():
            return self.runner.run_rest(
                lambda block: hidden if block == layer + 1 else hidden[:0],
                self.runner.positions(columns[None, first:]),
                attend_at,
                None if ends is None else ends.of_tokens,
            )


def prefill(
    runner: BlockRunner,
    padded: PaddedBatch,
    layers: Collection[int],
    *,
    n_last: int | None = None,
    whole: bool = True,
    keep_contexts: bool = True,
) -> Prefill:
    """Run prompts as they are.

    Args:
        runner: of the model.
        padded: the prompts, padded on either side; on the right is faster.
        layers: blocks whose outputs are wanted; see `Prefill.streams`.
        n_last: see there.
        whole: whether all columns are kept, for runs that change any token, or what runs need that
            change the `n_last` tokens: streams of these, and contexts that all end in one column.
        keep_contexts: whether later runs need keys and values.
    """
    mask, last = padded.mask.bool(), runner.anatomy.n_layers - 1
    ends = None if n_last is None else Ends.of(mask, n_last)
    # Padding on the right is seen by no token, and leaves all prompts the same positions.
    hidden_padding = None if bool(mask[:, 0].all()) else mask
    ids = padded.position_ids
    positions = runner.positions(ids[:1] if hidden_padding is None else ids)
    streams: dict[int, Tensor] = {}
    contexts: dict[int, Context] = {}

    def keep(layer: int, hidden: Tensor) -> None:
        if layer in layers:
            cut = ends is not None and not whole and layer < last
            streams[layer] = ends.of_tokens(hidden).clone() if ends and cut else hidden

    hidden = runner.embed(padded.token_ids, positions)
    keep(-1, hidden)
    for layer in range(last + 1):
        at_end = ends if layer == last else None

        def attend(call: AttentionCall, layer: int = layer, at_end: Ends | None = at_end) -> Tensor:
            if keep_contexts and layer > min(layers):
                context = Context(call.key, call.value)
                contexts[layer] = context.copied() if whole or not ends else ends.aligned(context)
            return attend_causal(call, hidden_padding) if at_end is None else at_end.attend(call)

        wanted = None if at_end is None else at_end.of_tokens
        with runner.attending():
            hidden = runner.run(layer, hidden, positions, attend, wanted)
        keep(layer, hidden)
    return Prefill(
        runner=runner,
        lengths=mask.sum(dim=1),
        n_last=n_last,
        streams=streams,
        contexts=contexts,
        valid=None if ends is None else ends.valid,
        output=hidden,
    )


@dataclass(frozen=True)
class Ends:
    """The last tokens of padded rows, and how rows are moved so that all end in one column.

    A row's own tokens then directly follow what it shares with others, whatever its length, as
    `attend_shared` wants it.
    """

    n_tokens: int
    columns: Tensor | None
    """`[row, column]`: where each column comes from; None where rows end in the last already."""
    valid: Tensor | None
    """`[row, column]` of the moved rows, False at padding; None without padding."""

    @classmethod
    def of(cls, mask: Tensor, n_tokens: int) -> Ends:
        """Of rows with tokens where `mask` is True, `[row, column]`, padded on one side."""
        if bool(mask.all()):
            return cls(n_tokens, None, None)
        if bool(mask[:, -1].all()):
            return cls(n_tokens, None, mask)
        columns = torch.arange(mask.shape[1], device=mask.device) - (~mask).sum(dim=1)[:, None]
        return cls(n_tokens, columns.clamp(min=0), columns >= 0)

    def of_tokens(self, states: Tensor) -> Tensor:
        """From `[row, column, ...]`, perhaps of the last columns alone, to the last tokens."""
        if self.columns is None:
            return states[:, -self.n_tokens :]
        n_rows, width = self.columns.shape
        rows = torch.arange(n_rows, device=states.device)[:, None]
        chosen = self.columns[:, -self.n_tokens :] - (width - states.shape[1])
        return states.expand(n_rows, *states.shape[1:])[rows, chosen]

    def aligned(self, context: Context) -> Context:
        """A copy of the rows' keys and values that all end in the last column."""
        if self.columns is None:
            return context.copied()
        rows = torch.arange(len(self.columns), device=self.columns.device)[:, None]
        # Heads come last but one while columns are picked, as they lie in memory.
        key, value = (
            states.transpose(1, 2)[rows, self.columns].transpose(1, 2).contiguous()
            for states in (context.key, context.value)
        )
        return Context(key, value)

    def attend(self, call: AttentionCall) -> Tensor:
        """Attention of the last tokens to all tokens of their rows."""
        n_rows, _, width, _ = call.key.shape
        context = self.aligned(Context(call.key, call.value))
        n_before = width - self.n_tokens
        return attend_shared(
            call,
            context.tokens(0, n_before),
            context.tokens(n_before, width),
            RowLayout.each_its_own(n_rows),
            None if self.valid is None else self.valid[:, :n_before],
        )
