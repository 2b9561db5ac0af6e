"""Component patching in either mode; the fast one repeats nothing that a patch cannot change.

A patch of the last position changes nothing before it, nor below the first block in which something
is replaced. So a prompt runs once in full, and a row is only the last token: it joins at its first
replaced block with the unpatched state that enters it, and attends to the prompt's cached keys and
values, which all rows of the prompt share, and to itself.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.models.batches import batches_by_length, pad_right
from glossogenesis.models.blocks import Attend, AttentionCall, BlockRunner
from glossogenesis.models.prefill import Prefill, prefill
from glossogenesis.models.shared_attention import RowLayout
from glossogenesis.robustness.components.hooks import (
    capture_by_hooks,
    recording,
    replacing,
    run_by_hooks,
)
from glossogenesis.robustness.components.rows import (
    ComponentRows,
    ComponentValues,
    Mode,
    OnBatch,
    Outputs,
    Where,
    check_prompts,
    check_rows,
)


def capture_components(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    *,
    outputs: Outputs = "added",
    batch_size: int,
    mode: Mode = "fast",
    added: ComponentValues | None = None,
) -> tuple[ComponentValues, Tensor]:
    """Outputs of all components at the last position of each prompt, and a classifier's logits.

    Args:
        anatomy: a sequence classifier.
        token_ids: prompts without padding; lengths may differ.
        outputs: see `Outputs`.
        batch_size: prompts in one forward pass; it does not change the result.
        mode: `fast` runs the last block on the last position alone; `reference` runs the whole
            model under hooks. Both give the same but for rounding.
        added: filled with what each prompt's components add to the residual stream, whatever
            `outputs` is.

    Returns:
        Values in the model's dtype, and logits `[prompt, label]` in float32; all on the CPU.

    Raises:
        StudyError: a prompt is empty or ends on the padding token.
    """
    capture = capture_at_last if mode == "fast" else capture_by_hooks
    return capture(anatomy, token_ids, outputs=outputs, batch_size=batch_size, added=added)


def run_components(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    rows: ComponentRows,
    values: ComponentValues,
    *,
    mode: Mode,
    positions: Where = "last",
    outputs: Outputs = "added",
    batch_size: int,
    on_batch: OnBatch | None = None,
    added: ComponentValues | None = None,
) -> Tensor:
    """Logits of a classifier where outputs of some components are replaced.

    Args:
        anatomy: a sequence classifier.
        token_ids: prompts without padding; lengths may differ.
        rows: which prompts run, and what is replaced in each run.
        values: what is put in place; any dtype, on the CPU.
        mode: `fast` recomputes the last position alone, from the first replaced block on, over the
            prompt's cached keys and values; `reference` runs every row in full with hooks. Both
            give the same but for rounding.
        positions: where outputs are replaced: at the last position, or by the same value at `all`,
            which `reference` alone can do.
        outputs: see `Outputs`; as in the capture of the values.
        batch_size: full prompts in one forward pass; `fast` bounds its passes to as many tokens.
        on_batch: called with how many rows each batch finished.
        added: filled with what the components of every prompt that has a row in which nothing is
            replaced add to the residual stream at its last position.

    Returns:
        `[row, label]`, float32 on the CPU, rows in the order given.

    Raises:
        ValueError: rows or values do not fit, or `positions="all"` is asked of `fast`.
        StudyError: a prompt is empty or ends on the padding token.
    """
    if mode == "fast":
        if positions == "all":
            raise ValueError('positions="all" needs mode="reference": earlier positions change')
        return run_last_positions(
            anatomy,
            token_ids,
            rows,
            values,
            outputs=outputs,
            batch_size=batch_size,
            on_batch=on_batch,
            added=added,
        )
    return run_by_hooks(
        anatomy,
        token_ids,
        rows,
        values,
        outputs=outputs,
        positions=positions,
        batch_size=batch_size,
        on_batch=on_batch,
        added=added,
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
    """See `fast.capture_components`."""
    check_prompts(anatomy, token_ids)
    runner = BlockRunner(anatomy)
    values = ComponentValues.empty(anatomy, len(token_ids))
    logits = torch.empty(len(token_ids), anatomy.config.num_labels)
    with runner.attending():
        for prompts in batches_by_length([len(ids) for ids in token_ids], batch_size):
            chosen = [token_ids[prompt] for prompt in prompts]
            with recording(anatomy, outputs, _last_columns(anatomy, chosen)) as recorded:
                read, recorded_added = _read(runner, chosen, keep_contexts=False)
            values.put(prompts, recorded, read.streams[-1][:, 0])
            if added is not None:
                added.put(prompts, recorded_added, read.streams[-1][:, 0])
            logits[prompts] = anatomy.logits(read.output[:, 0]).float().cpu()
    return values, logits


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
    """See `effects.run_components`."""
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
            batch = [token_ids[prompt] for prompt in chosen]
            # As many rows as columns, so no more tokens than in the prompts' own pass; but all
            # rows of one pair.
            size = max(max(map(len, batch)), anatomy.n_layers * len(COMPONENTS))
            chunks = _chunks(rows, joins, [rows_of[prompt] for prompt in chosen], size)
            read, recorded = _read(runner, batch)
            if added is not None:
                added.put(chosen, recorded, read.streams[-1][:, 0])
            for chunk in chunks:
                with replacing(anatomy, chunk.rows, values, outputs=outputs):
                    final = _run_chunk(runner, read, chunk, values)
                logits[chunk.numbers] = anatomy.logits(final).float().cpu()
            # The next batch's keys and values need the room of this one's.
            del read
            if on_batch is not None:
                on_batch(sum(len(rows_of[prompt]) for prompt in chosen))
    return logits


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


def _read(
    runner: BlockRunner, batch: Sequence[Sequence[int]], *, keep_contexts: bool = True
) -> tuple[Prefill, Tensor]:
    """Read prompts unpatched, and what their components add at the last position.

    Prompts are padded on the right: then no token sees padding before it, and the ordinary causal
    product, the fastest there is, serves prompts of any length.
    """
    anatomy = runner.anatomy
    with recording(anatomy, "added", _last_columns(anatomy, batch)) as recorded:
        read = prefill(
            runner,
            pad_right(batch, anatomy.device),
            range(-1, anatomy.n_layers) if keep_contexts else [-1],
            n_last=1,
            whole=False,
            keep_contexts=keep_contexts,
        )
    return read, recorded


def _last_columns(anatomy: Anatomy, batch: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([len(ids) - 1 for ids in batch], device=anatomy.device)


def _run_chunk(
    runner: BlockRunner, read: Prefill, chunk: _Chunk, values: ComponentValues
) -> Tensor:
    """Last block's output at the last position, `[row, d_model]`; within `replacing`.

    Rows in which nothing is replaced join after the last block.
    """
    device = read.output.device
    places = torch.tensor(chunk.places, device=device)

    def joining(layer: int) -> Tensor:
        first, last = (bisect(chunk.joins, join) for join in (layer - 1, layer))
        hidden = read.streams[layer - 1][places[first:last]]
        if layer == 0:
            _put_embeddings(hidden, chunk.rows, values)
        return hidden

    def attend_at(layer: int, n_rows: int) -> Attend:
        layout = RowLayout.of(chunk.places[:n_rows], read.n_prompts, device)

        def attend(call: AttentionCall) -> Tensor:
            return read.attend(layer, call, call.own, layout, after=1)

        return attend

    positions = runner.positions(read.last_positions[places])
    return runner.run_rest(joining, positions, attend_at)[:, 0]


def _put_embeddings(hidden: Tensor, rows: ComponentRows, values: ComponentValues) -> None:
    """Replace what enters block 0 in the first rows, `[row, 1, d_model]`, in place."""
    chosen = rows.embedding[: len(hidden)]
    sources = rows.sources[: len(hidden)][chosen]
    hidden[chosen.to(hidden.device), 0] = values.embeddings[sources].to(hidden)
