"""The fast engine: patching without repeating what a patch cannot change. Equal to the reference.

Prompts of equal suffix length go together: one unpatched pass, then all their patched runs as rows
of suffix tokens, then generation from the keys and values at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.patching.answers import answer
from glossogenesis.patching.decoding import GeneratingRows, generate
from glossogenesis.patching.engine import (
    OnBatch,
    PatchedRun,
    PatchPrompt,
    PatchRequest,
    check_fits,
)
from glossogenesis.patching.prefill import Prefill, prefill
from glossogenesis.patching.sweep import Sweep, sweep


@torch.inference_mode()
def run_fast(
    anatomy: Anatomy, request: PatchRequest, *, batch_size: int, on_batch: OnBatch | None = None
) -> PatchedRun:
    """Compute a request.

    Args:
        anatomy: the model.
        request: what to compute.
        batch_size: bounds one pass over the model to as many tokens as this many of the prompts
            have; it does not change the result.
        on_batch: told how many prompts each batch finished.
    """
    check_fits(anatomy, request)
    run = PatchedRun.empty(anatomy, request)
    runner = BlockRunner(anatomy)
    rows_a_prompt = request.n_settings * len(request.start_layers)
    with runner.attending():
        for batch in _batches(request.prompts, rows_a_prompt, batch_size):
            _fill_in(run, runner, request, batch)
            if on_batch is not None:
                on_batch(len(batch))
    return run


def _batches(
    prompts: Sequence[PatchPrompt], rows_a_prompt: int, batch_size: int
) -> Iterator[list[int]]:
    """Prompts of equal suffix length and similar length, long ones first, in even batches."""
    groups: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(prompt.suffix_length, []).append(index)
    for suffix_length, group in sorted(groups.items()):
        group.sort(key=lambda index: (-len(prompts[index].token_ids), index))
        tokens = batch_size * len(prompts[group[0]].token_ids)
        fitting = tokens // max(1, rows_a_prompt * suffix_length)
        size = max(1, min(batch_size, fitting))
        n_batches = -(-len(group) // size)
        bounds = [len(group) * index // n_batches for index in range(n_batches + 1)]
        for first, last in zip(bounds, bounds[1:], strict=False):
            yield group[first:last]


def _fill_in(
    run: PatchedRun, runner: BlockRunner, request: PatchRequest, batch: Sequence[int]
) -> None:
    """Compute every setting and start layer of some prompts, and the unpatched prompts."""
    anatomy = runner.anatomy
    before = prefill(runner, [request.prompts[index] for index in batch])
    run.residual_at_position[batch] = before.own_states.cpu()
    token_ids = request.token_ids_of_interest[batch].to(anatomy.device)
    chosen, unpatched_first = answer(anatomy, before.suffix[-1][:, -1], token_ids)
    run.unpatched_log_probabilities[batch] = chosen.cpu()

    after = sweep(
        runner,
        before,
        request.patches_for(batch, before.own_states),
        request.start_layers,
        keep=request.generate_at,
        room=request.max_new_tokens - 1 if request.generates else 0,
    )
    n_rows = after.last.shape[0] * after.last.shape[1]
    chosen, first = answer(anatomy, after.last.flatten(0, 2), token_ids.repeat(n_rows, 1))
    chosen = chosen.unflatten(0, after.last.shape[:3])
    run.log_probabilities[:, batch] = chosen.permute(1, 2, 0, 3).cpu()
    if request.generates:
        first = first.unflatten(0, after.last.shape[:3])
        _generate(run, runner, request, (batch, before, after), (unpatched_first, first))


def _generate(
    run: PatchedRun,
    runner: BlockRunner,
    request: PatchRequest,
    computed: tuple[Sequence[int], Prefill, Sweep],
    first: tuple[Tensor, Tensor],
) -> None:
    """Generate from the unpatched prompts and from the wanted start layers of every setting.

    A run patched in the last layer alone answers as the unpatched one does, so it is not computed.
    """
    batch, before, after = computed
    unpatched_first, patched_first = first
    last_layer = runner.anatomy.n_layers - 1
    starts = [layer for layer in request.generate_at if layer != last_layer]
    wanted = [request.start_layers.index(layer) for layer in starts]
    n_rows = request.n_settings * len(batch)
    rows = GeneratingRows(
        start_layers=[layer for layer in starts for _ in range(n_rows)] + [last_layer] * len(batch),
        prompts=list(range(len(batch))) * (len(starts) * request.n_settings + 1),
        first_tokens=torch.cat([patched_first[wanted].flatten(), unpatched_first]),
        own=after.own,
    )
    generated = generate(runner, before, rows, request.max_new_tokens, request.stop_ids).cpu()
    unpatched = generated[-len(batch) :]
    run.unpatched_generated[batch] = unpatched
    shape = (len(starts), request.n_settings, len(batch))
    patched = generated[: -len(batch)].unflatten(0, shape).permute(1, 2, 0, 3)
    for index, layer in enumerate(starts):
        run.generated[:, batch, request.generate_at.index(layer)] = patched[:, :, index]
    if last_layer in request.generate_at:
        run.generated[:, batch, request.generate_at.index(last_layer)] = unpatched
