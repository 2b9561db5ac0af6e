"""Read prompts once and keep keys and values; then run what follows any block again.

What is put in place of a block's output changes no token before it. So a later run begins at the
block and the token that it changes, and attends to the kept keys and values of the tokens before.
In the last block, only tokens whose output is wanted have queries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from glossogenesis.models.batches import PaddedBatch
from glossogenesis.models.blocks import Attend, AttentionCall, BlockRunner, Context
from glossogenesis.models.shared_attention import RowLayout, attend_causal, attend_shared


@dataclass(frozen=True)
class Prefill:
    """Prompts that a model has read, and what later runs of them reuse."""

    runner: BlockRunner
    lengths: Tensor
    """Tokens of each prompt `[prompt]`, int64."""
    n_last: int | None
    """Tokens of each prompt, its last, of which the last block gives an output; all where None."""
    streams: Mapping[int, Tensor]
    """Output of the wanted blocks and the last, `[prompt, column, d_model]`; -1 stands for what
    enters the first. Of all columns but after the last block, or of the `n_last` tokens alone."""
    contexts: Mapping[int, Context]
    """Keys and values `[prompt, kv_head, column, head_dim]` of the blocks above the lowest wanted
    one."""
    valid: Tensor | None
    """`[prompt, column]` of contexts that all end in one column, False at padding; else None."""

    @property
    def output(self) -> Tensor:
        """Of the last block, `[prompt, column, d_model]` or `[prompt, n_last, d_model]`."""
        return self.streams[self.runner.anatomy.n_layers - 1]

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
                row = call.everything
                if first:
                    read = self.contexts[block]
                    before = Context(read.key[prompts, :, :first], read.value[prompts, :, :first])
                    if at_end is None:
                        layout = RowLayout.each_its_own(n_rows)
                        return attend_shared(call, before, row, layout, None)
                    row = before.followed_by(row)
                return attend_causal(call, None) if at_end is None else at_end.attend(call, row)

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
    kept_ends = None if whole else ends
    # Padding on the right is seen by no token, and leaves all prompts the same positions.
    on_the_left = None if bool(mask[:, 0].all()) else mask
    ids = padded.position_ids
    positions = runner.positions(ids[:1] if on_the_left is None else ids)
    contexts: dict[int, Context] = {}

    def attend(layer: int, call: AttentionCall) -> Tensor:
        row = call.everything
        if keep_contexts and layer > min(layers):
            contexts[layer] = row.copied() if kept_ends is None else kept_ends.aligned(row)
        if ends is None or layer < last:
            return attend_causal(call, on_the_left)
        # The last tokens' own are projected as later runs do: with the whole row, or alone.
        return ends.attend(call, row, None if whole else call.own)

    hidden = runner.embed(padded.token_ids, positions)
    streams = {-1: hidden if kept_ends is None else kept_ends.of_tokens(hidden)}
    with runner.attending():
        for layer in range(last):
            hidden = runner.run(layer, hidden, positions, partial(attend, layer))
            if layer in layers:
                cut = hidden if kept_ends is None else kept_ends.of_tokens(hidden).clone()
                streams[layer] = cut
        wanted = None if ends is None else ends.of_tokens
        streams[last] = runner.run(last, hidden, positions, partial(attend, last), wanted)
    return Prefill(
        runner=runner,
        lengths=mask.sum(dim=1),
        n_last=n_last,
        streams=streams,
        contexts=contexts,
        valid=None if kept_ends is None else kept_ends.valid,
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

    def attend(self, call: AttentionCall, row: Context, own: Context | None = None) -> Tensor:
        """Attention of the last tokens to all tokens of their rows.

        Args:
            call: queries of the last tokens.
            row: keys and values of all tokens.
            own: those of the last tokens, if not as in `row`.
        """
        n_rows, _, width, _ = row.key.shape
        context, n_before = self.aligned(row), width - self.n_tokens
        return attend_shared(
            call,
            context.tokens(0, n_before),
            context.tokens(n_before, width) if own is None else own,
            RowLayout.each_its_own(n_rows),
            None if self.valid is None else self.valid[:, :n_before],
        )
