"""Runs of a classifier whose residual stream was changed after one block: only what follows.

A post is read once, with the keys and values of its tokens kept. Whatever is then put in place
after a block, nothing before the first changed token can differ, so a run begins there: its tokens
attend to the kept keys and values before them. In the last block the classified token alone has
queries.

Posts are padded on the right, where no earlier token sees the padding; the classified position is
the last token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.blocks import AttentionCall, BlockRunner, Positions
from glossogenesis.models.shared_attention import (
    Context,
    RowLayout,
    attend_causal,
    attend_shared,
)

_STARTS_TOGETHER = 8
"""Runs whose first tokens lie this close go into one batch, the others of which start earlier."""


@dataclass(frozen=True)
class ReadPosts:
    """Some posts as the classifier reads them, and what later runs reuse."""

    lengths: Tensor
    """Tokens of each post `[post]`, int64."""
    streams: Mapping[int, Tensor]
    """Residual stream after each wanted block, `[post, position, d_model]`; after the last block
    `[post, 1, d_model]`, of the classified token alone."""
    contexts: Mapping[int, Context]
    """Keys and values `[post, kv_head, position, head_dim]` of the blocks above the wanted ones."""
    logits: Tensor
    """`[post, label]`"""

    def looked_at(self, layer: int) -> Tensor:
        """Which entries of a layer's stream are tokens, bool `[post, position]`."""
        stream = self.streams[layer]
        if stream.shape[1] == 1:
            return torch.ones(stream.shape[:2], dtype=torch.bool, device=stream.device)
        columns = torch.arange(stream.shape[1], device=stream.device)
        return columns < self.lengths[:, None]


def read_posts_once(
    runner: BlockRunner, token_ids: Sequence[Sequence[int]], layers: Sequence[int]
) -> ReadPosts:
    """Run posts of similar length as they are; within `runner.attending()`.

    Args:
        runner: of the classifier.
        token_ids: the posts, at least one token each.
        layers: the blocks whose outputs are wanted.
    """
    anatomy, last = runner.anatomy, runner.anatomy.n_layers - 1
    lengths = torch.tensor([len(ids) for ids in token_ids], device=anatomy.device)
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(ids) for ids in token_ids], batch_first=True
    ).to(anatomy.device)
    positions = _positions(runner, 0, padded.shape[1])
    streams: dict[int, Tensor] = {}
    contexts: dict[int, Context] = {}
    hidden = runner.embed(padded, positions)
    for layer in range(last):

        def attend(call: AttentionCall, layer: int = layer) -> Tensor:
            if layer > min(layers):
                contexts[layer] = Context(call.key.contiguous(), call.value.contiguous())
            return attend_causal(call, None)

        hidden = runner.run(layer, hidden, positions, attend)
        if layer in layers:
            streams[layer] = hidden
    contexts[last] = Context(*runner.project(last, hidden, positions))
    hidden = _last_block(runner, hidden, contexts[last], lengths - 1, 0)
    if last in layers:
        streams[last] = hidden
    return ReadPosts(lengths, streams, contexts, anatomy.logits(hidden[:, 0]))


def run_changed(
    runner: BlockRunner, read: ReadPosts, layer: int, posts: Tensor, first: int, hidden: Tensor
) -> Tensor:
    """Run what follows block `layer` on another output of it; within `runner.attending()`.

    Args:
        runner: of the classifier.
        read: the posts; the layer is one of those wanted.
        layer: the block, before the last.
        posts: `[row]`, which post each row is of.
        first: position of the rows' first token; those before it are as they were read.
        hidden: what is put in place, `[row, token, d_model]`, up to the longest post of the rows.

    Returns:
        Logits `[row, label]`.
    """
    last = runner.anatomy.n_layers - 1
    positions = _positions(runner, first, first + hidden.shape[1])
    for block in range(layer + 1, last):
        before = _rows_of(read.contexts[block], posts, first)

        def attend(call: AttentionCall, before: Context = before) -> Tensor:
            if first == 0:
                return attend_causal(call, None)
            own = Context(call.key, call.value)
            return attend_shared(call, before, own, _each_its_own(len(posts)), None)

        hidden = runner.run(block, hidden, positions, attend)
    key, value = runner.project(last, hidden, positions)
    before = _rows_of(read.contexts[last], posts, first)
    context = Context(torch.cat([before.key, key], dim=2), torch.cat([before.value, value], dim=2))
    hidden = _last_block(runner, hidden, context, read.lengths[posts] - 1, first)
    return runner.anatomy.logits(hidden[:, 0])


def batches_of_runs(starts: Tensor, lengths: Tensor, tokens: int) -> Iterator[Tensor]:
    """Divide runs into batches of at most `tokens` tokens, or of one run.

    Args:
        starts: position of each run's first token, int64 `[run]`.
        lengths: tokens of each run's post, int64 `[run]`.
        tokens: bound of a batch; a run counts from the batch's first start to its longest post.

    Yields:
        Indices of runs, int64, each once.
    """
    together = (starts // _STARTS_TOGETHER).tolist()
    of_start, of_length = starts.tolist(), lengths.tolist()
    order = sorted(range(len(of_start)), key=lambda run: (together[run], -of_length[run], run))
    batch: list[int] = []
    first = end = 0
    for run in order:
        wide = max(end, of_length[run]) - min(first, of_start[run])
        if batch and (len(batch) + 1) * wide > tokens:
            yield torch.tensor(batch)
            batch = []
        if not batch:
            first, end = of_start[run], of_length[run]
        first, end = min(first, of_start[run]), max(end, of_length[run])
        batch.append(run)
    if batch:
        yield torch.tensor(batch)


def _positions(runner: BlockRunner, first: int, end: int) -> Positions:
    """Positions of rows that all begin at `first`, `[1, token]`."""
    return runner.positions(torch.arange(first, end, device=runner.anatomy.device)[None])


def _rows_of(context: Context, posts: Tensor, first: int) -> Context:
    """What rows attend to before their first token."""
    return Context(context.key[posts, :, :first], context.value[posts, :, :first])


def _each_its_own(n_rows: int) -> RowLayout:
    return RowLayout(n_prompts=n_rows, n_slots=1, gather=None, scatter=None)


def _last_block(
    runner: BlockRunner, hidden: Tensor, context: Context, ends: Tensor, first: int
) -> Tensor:
    """Output `[row, 1, d_model]` of the last block at the last token of each row's post.

    Args:
        runner: of the classifier.
        hidden: what enters the block, `[row, token, d_model]`, from position `first` on.
        context: keys and values of the block from position 0 on, an entry a row.
        ends: position of each row's last token `[row]`.
        first: see `hidden`.
    """
    width = context.key.shape[2]
    # Columns are shifted so that all rows end in the last: windows and ALiBi count columns.
    columns = torch.arange(width, device=ends.device) + (ends - (width - 1))[:, None]
    places = columns.clamp(min=0)[:, None, :, None]

    def shifted(states: Tensor) -> Tensor:
        return states.gather(2, places.expand(-1, states.shape[1], -1, states.shape[3]))

    aligned = Context(shifted(context.key), shifted(context.value))
    valid = (columns >= 0)[:, :-1]

    def attend(call: AttentionCall) -> Tensor:
        return attend_shared(
            call,
            aligned.tokens(0, width - 1),
            aligned.tokens(width - 1, width),
            _each_its_own(len(hidden)),
            valid,
        )

    rows = torch.arange(len(hidden), device=ends.device)
    classified = hidden[rows, ends - first][:, None]
    positions = runner.positions(ends[:, None])
    return runner.run(runner.anatomy.n_layers - 1, classified, positions, attend)
