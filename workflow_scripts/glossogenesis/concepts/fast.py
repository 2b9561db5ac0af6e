"""The fast engine: patching without repeating what a patch cannot change. Equal to the reference.

Prompts of equal suffix length go together: one unpatched pass, then all their patched runs as rows
of suffix tokens, then generation from the keys and values at hand.

A patch from start layer `j` at position `p` changes nothing before `p`, and after `p` nothing up to
block `j`. So a row (one setting, one start layer, one prompt) is only the tokens after `p`. It
joins at block `j + 1` with the unpatched states of block `j`, and attends to the prompt's unpatched
prefix, to the key and value of the patched state at `p`, and to itself. The result equals the full
run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from glossogenesis.models.batches import pad_left
from glossogenesis.models.blocks import Attend, AttentionCall, BlockRunner, Context
from glossogenesis.models.capture import answer
from glossogenesis.models.prefill import Prefill, prefill
from glossogenesis.models.shared_attention import RowLayout


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
        on_batch: called with how many prompts each batch finished.
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
        patched = runner.project(layer, patched_states, at_patch)
        kept = [index for index, start in enumerate(start_layers) if start in keep]
        layout = RowLayout(n_prompts, n_rows // n_prompts, None, None)

        def attend(call: AttentionCall) -> Tensor:
            suffix = call.everything
            n_own = 1 + suffix.key.shape[2]
            rows = Context(
                _with_patched(patched.key, suffix.key, room),
                _with_patched(patched.value, suffix.value, room),
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
