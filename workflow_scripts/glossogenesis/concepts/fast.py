"""The fast engine: patching without repeating what a patch cannot change. Equal to the reference.

Prompts of equal suffix length go together: one unpatched pass, then all their patched runs as rows
of suffix tokens, then generation from the keys and values at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from glossogenesis.concepts.decoding import GeneratingRows, generate
from glossogenesis.concepts.request import (
    OnBatch,
    PatchedRun,
    PatchPrompt,
    PatchRequest,
    check_fits,
)
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.models.padding import pad_left
from glossogenesis.models.prefill import Prefill, prefill
from glossogenesis.patching.answers import answer
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
        for first, last in pairwise(bounds):
            yield group[first:last]


def _fill_in(
    run: PatchedRun, runner: BlockRunner, request: PatchRequest, batch: Sequence[int]
) -> None:
    """Compute every setting and start layer of some prompts, and the unpatched prompts.

    A run patched in the last layer alone answers as the unpatched one does, so it is not computed.
    """
    anatomy = runner.anatomy
    prompts = [request.prompts[index] for index in batch]
    before = prefill(
        runner,
        pad_left([prompt.token_ids for prompt in prompts], anatomy.device),
        range(-1, anatomy.n_layers),
        n_last=1 + prompts[0].suffix_length,
        whole=False,
    )
    own_states = torch.stack(
        [before.streams[layer][:, 0] for layer in range(anatomy.n_layers)], dim=1
    )
    run.residual_at_position[batch] = own_states.cpu()
    token_ids = request.token_ids_of_interest[batch].to(anatomy.device)
    chosen, unpatched_first = answer(anatomy, before.output[:, -1], token_ids)
    run.unpatched_log_probabilities[batch] = chosen.cpu()
    run.log_probabilities[:, batch] = chosen.cpu()[:, None]

    starts = [layer for layer in request.start_layers if layer < anatomy.n_layers - 1]
    after = sweep(
        runner,
        before,
        request.patches_for(batch, own_states),
        starts,
        keep=request.generate_at,
        room=request.max_new_tokens - 1 if request.generates else 0,
    )
    n_rows = len(starts) * request.n_settings
    chosen, first = answer(anatomy, after.last.flatten(0, 2), token_ids.repeat(n_rows, 1))
    shape = after.last.shape[:3]
    # The last layer, if wanted, is the last of the ascending start layers.
    patched = run.log_probabilities[:, :, : len(starts)]
    patched[:, batch] = chosen.view(*shape, token_ids.shape[1]).permute(1, 2, 0, 3).cpu()
    if request.generates:
        wanted = [index for index, layer in enumerate(starts) if layer in request.generate_at]
        first_tokens = torch.cat([first.view(shape)[wanted].flatten(), unpatched_first])
        _generate(run, runner, request, (batch, before, after), first_tokens)


def _generate(
    run: PatchedRun,
    runner: BlockRunner,
    request: PatchRequest,
    computed: tuple[Sequence[int], Prefill, Sweep],
    first_tokens: Tensor,
) -> None:
    """Generate from the wanted start layers of every setting and from the unpatched prompts."""
    batch, before, after = computed
    last_layer = runner.anatomy.n_layers - 1
    starts = [layer for layer in request.generate_at if layer < last_layer]
    n_rows = request.n_settings * len(batch)
    rows = GeneratingRows(
        start_layers=[layer for layer in starts for _ in range(n_rows)] + [last_layer] * len(batch),
        prompts=list(range(len(batch))) * (len(starts) * request.n_settings + 1),
        first_tokens=first_tokens,
        own=after.own,
    )
    generated = generate(runner, before, rows, request.max_new_tokens, request.stop_ids).cpu()
    unpatched = generated[-len(batch) :]
    run.unpatched_generated[batch] = unpatched
    run.generated[:, batch] = unpatched[:, None]
    shape = (len(starts), request.n_settings, len(batch), request.max_new_tokens)
    patched = run.generated[:, :, : len(starts)]
    patched[:, batch] = generated[: -len(batch)].view(shape).permute(1, 2, 0, 3)
