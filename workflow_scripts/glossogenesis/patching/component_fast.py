"""Component patching without repeating what a patch cannot change. Equal to the reference.

A patch of the last position changes nothing before it, nor below the first block in which something
is replaced. So a prompt runs once in full, and a row is only the last token: it joins at its first
replaced block with the unpatched state that enters it, and attends to the prompt's cached keys and
values, which all rows of the prompt share, and to itself.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.models.blocks import Attend, AttentionCall, BlockRunner
from glossogenesis.models.padding import batches_by_length
from glossogenesis.models.shared_attention import Context, RowLayout, attend_shared
from glossogenesis.patching.component_capture import LastPosition, PromptBatch, run_unpatched
from glossogenesis.patching.component_hooks import recording, replacing
from glossogenesis.patching.component_rows import (
    ComponentRows,
    ComponentValues,
    OnBatch,
    Outputs,
    check_rows,
)


@torch.inference_mode()
def run_last_positions(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    rows: ComponentRows,
    values: ComponentValues,
    *,
    outputs: Outputs,
    batch_size: int,
    on_batch: OnBatch | None = None,
    added: ComponentValues | None = None,
) -> Tensor:
    """See `component_runs.run_components`."""
    check_rows(anatomy, token_ids, rows, values)
    runner = BlockRunner(anatomy)
    logits = torch.empty(len(rows), anatomy.config.num_labels)
    joins = rows.joins()
    rows_of: dict[int, list[int]] = {}
    for row, prompt in enumerate(rows.prompts.tolist()):
        rows_of.setdefault(prompt, []).append(row)
    prompts = sorted(rows_of)
    with runner.attending():
        for places in batches_by_length([len(token_ids[p]) for p in prompts], batch_size):
            chosen = [prompts[place] for place in places]
            batch = PromptBatch.of([token_ids[prompt] for prompt in chosen], anatomy.device)
            # As many rows as columns, so no more tokens than in the prompts' own pass; but all
            # rows of one pair.
            size = max(batch.width, anatomy.n_layers * len(COMPONENTS))
            chunks = _chunks(rows, joins, [rows_of[prompt] for prompt in chosen], size)
            kept = None if added is None else _Kept(added, chosen)
            for numbers, final in _run_batch(runner, batch, chunks, values, outputs, kept):
                logits[numbers] = anatomy.logits(final).float().cpu()
            if on_batch is not None:
                on_batch(sum(len(rows_of[prompt]) for prompt in chosen))
    return logits


@dataclass(frozen=True)
class _Kept:
    """Where to put what components add in the unpatched pass of some prompts."""

    added: ComponentValues
    prompts: Sequence[int]


@dataclass(frozen=True)
class _Chunk:
    """Rows that run together, in the order in which they join."""

    rows: ComponentRows
    joins: Sequence[int]
    """For each row, the block at which it joins."""
    places: Sequence[int]
    """For each row, the place of its prompt in the batch."""
    numbers: Sequence[int]
    """For each row, its index among all rows."""


def _chunks(
    rows: ComponentRows, all_joins: Sequence[int], rows_of: Sequence[Sequence[int]], size: int
) -> Iterator[_Chunk]:
    """The rows of a batch, at most `size` of each prompt at once.

    Of rows that join together, each prompt's first come first, then each prompt's second and so on:
    where prompts have as many rows they take turns, which `RowLayout` calls dense.

    Args:
        rows: all rows.
        all_joins: where each of them joins.
        rows_of: for each prompt of the batch, the indices of its rows.
        size: see above.
    """
    for start in range(0, max(len(numbers) for numbers in rows_of), size):
        order: list[tuple[int, int, int, int]] = []
        for place, numbers in enumerate(rows_of):
            met: Counter[int] = Counter()
            for number in numbers[start : start + size]:
                join = all_joins[number]
                order.append((join, met[join], place, number))
                met[join] += 1
        joins, _, places, chosen = map(list, zip(*sorted(order), strict=True))
        yield _Chunk(rows.take(chosen), joins, places, chosen)


def _run_batch(
    runner: BlockRunner,
    batch: PromptBatch,
    chunks: Iterable[_Chunk],
    values: ComponentValues,
    outputs: Outputs,
    kept: _Kept | None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield rows' indices and last block's output at the last position, `[row, d_model]`.

    Keys and values of the prompts are freed at the end, before those of the next batch are made.
    """
    with recording(runner.anatomy, "added", batch.last) as recorded:
        unpatched = run_unpatched(runner, batch, keep_contexts=True)
    if kept is not None:
        kept.added.put(kept.prompts, recorded, unpatched.states[0])
    for chunk in chunks:
        with replacing(runner.anatomy, chunk.rows, values, outputs=outputs):
            final = _run_chunk(runner, batch, unpatched, chunk, values)
        yield list(chunk.numbers), final


def _run_chunk(
    runner: BlockRunner,
    batch: PromptBatch,
    unpatched: LastPosition,
    chunk: _Chunk,
    values: ComponentValues,
) -> Tensor:
    """Last block's output at the last position, `[row, d_model]`; within `replacing`.

    Rows in which nothing is replaced join after the last block.
    """
    device = unpatched.states.device
    places = torch.tensor(chunk.places, device=device)
    positions = runner.positions(batch.last[places][:, None])
    hidden = unpatched.states[0, :0]
    for layer, states in enumerate(unpatched.states):
        n_before, n_now = (bisect(chunk.joins, last) for last in (layer - 1, layer))
        if n_now > n_before:
            hidden = torch.cat([hidden, states[places[n_before:n_now]]])
            layout = RowLayout.of(chunk.places[:n_now], batch.n_prompts, device)
        if layer == 0:
            _put_embeddings(hidden, chunk.rows, values)
        if layer < runner.anatomy.n_layers and n_now:
            attend = _attention(unpatched.contexts[layer], layout, unpatched.valid)
            active = positions.rows(slice(0, n_now))
            hidden = runner.run(layer, hidden[:, None], active, attend)[:, 0]
    return hidden


def _put_embeddings(hidden: Tensor, rows: ComponentRows, values: ComponentValues) -> None:
    """Replace what enters block 0 in the first rows, `[row, d_model]`, in place."""
    chosen = rows.embedding[: len(hidden)]
    sources = rows.sources[: len(hidden)][chosen]
    hidden[chosen.to(hidden.device)] = values.embeddings[sources].to(hidden)


def _attention(shared: Context, layout: RowLayout, valid: Tensor | None) -> Attend:
    """Attention of single tokens to their prompts' cached keys and values and to themselves."""

    def attend(call: AttentionCall) -> Tensor:
        return attend_shared(call, shared, Context(call.key, call.value), layout, valid)

    return attend
