"""Patching the plain way: hooks on the whole model, and every prompt in full for every patch.

This is what the fast engine is tested and measured against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glossogenesis.concepts.request import (
    NO_TOKEN,
    OnBatch,
    PatchedRun,
    PatchPrompt,
    PatchRequest,
    check_fits,
)
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import block_output, residual_at, watched_blocks
from glossogenesis.models.padding import batches_by_length, pad_left
from glossogenesis.patching.answers import answer, is_stop


@dataclass(frozen=True)
class _Rows:
    """What runs in one forward pass: prompts, each with its own patch."""

    prompts: Sequence[PatchPrompt]
    patches: Tensor
    """`[row, layer, d_model]`"""
    start_layers: Tensor
    """`[row]`; the number of layers stands for no patch."""
    token_ids: Tensor
    """`[row, k]`"""


@torch.inference_mode()
def run_reference(
    anatomy: Anatomy, request: PatchRequest, *, batch_size: int, on_batch: OnBatch | None = None
) -> PatchedRun:
    """Compute a request with forward hooks, `batch_size` full prompts in one forward pass."""
    check_fits(anatomy, request)
    run = PatchedRun.empty(anatomy, request)
    run.residual_at_position[:] = residual_at(
        anatomy,
        [prompt.token_ids for prompt in request.prompts],
        [prompt.position for prompt in request.prompts],
        batch_size=batch_size,
    )
    lengths = [len(prompt.token_ids) for prompt in request.prompts]
    for batch in batches_by_length(lengths, batch_size):
        _fill_in(run, anatomy, request, batch, batch_size)
        if on_batch is not None:
            on_batch(len(batch))
    return run


def _fill_in(
    run: PatchedRun,
    anatomy: Anatomy,
    request: PatchRequest,
    batch: Sequence[int],
    batch_size: int,
) -> None:
    """Compute every setting and start layer of some prompts, and the unpatched prompts."""
    own = run.residual_at_position[batch].to(anatomy.device)
    patches = request.patches_for(batch, own)
    settings = range(request.n_settings)
    unpatched = [(0, anatomy.n_layers, at) for at in range(len(batch))]
    jobs = [
        (s, layer, at)
        for s in settings
        for layer in request.start_layers
        for at in range(len(batch))
    ]
    generating = {*request.generate_at, anatomy.n_layers} if request.generates else set()
    for generate in (False, True):
        wanted = [job for job in unpatched + jobs if (job[1] in generating) == generate]
        for first in range(0, len(wanted), batch_size):
            part = wanted[first : first + batch_size]
            at = [job[2] for job in part]
            rows = _Rows(
                prompts=[request.prompts[batch[index]] for index in at],
                patches=patches[[job[0] for job in part], at],
                start_layers=torch.tensor([job[1] for job in part], device=anatomy.device),
                token_ids=request.token_ids_of_interest[[batch[i] for i in at]].to(anatomy.device),
            )
            chosen, generated = _run_rows(anatomy, rows, request, generate=generate)
            for row, (setting, layer, index) in enumerate(part):
                _store(run, request, (setting, layer, batch[index]), chosen[row], generated[row])


def _store(
    run: PatchedRun,
    request: PatchRequest,
    where: tuple[int, int, int],
    chosen: Tensor,
    generated: Tensor,
) -> None:
    """Put one row of results where its setting, start layer and prompt say."""
    setting, layer, prompt = where
    if layer not in request.start_layers:
        run.unpatched_log_probabilities[prompt] = chosen
        run.unpatched_generated[prompt] = generated
        return
    run.log_probabilities[setting, prompt, request.start_layers.index(layer)] = chosen
    if layer in request.generate_at:
        run.generated[setting, prompt, request.generate_at.index(layer)] = generated


def _run_rows(
    anatomy: Anatomy, rows: _Rows, request: PatchRequest, *, generate: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[row, k]` and generated tokens `[row, max_new_tokens]`, on the CPU."""
    padded = pad_left([prompt.token_ids for prompt in rows.prompts], anatomy.device)
    columns = padded.columns([prompt.position for prompt in rows.prompts])
    with _patched(anatomy, rows, columns):
        output = anatomy.base(**padded.model_inputs(anatomy), use_cache=generate)
    chosen, token = _answer(anatomy, output, rows)
    generated = torch.full((len(token), request.max_new_tokens), NO_TOKEN, device=token.device)
    if generate:
        finished = torch.zeros_like(token, dtype=torch.bool)
        mask, position = padded.mask, padded.position_ids[:, -1:]
        for step in range(request.max_new_tokens):
            generated[:, step] = token.masked_fill(finished, NO_TOKEN)
            finished = finished | is_stop(token, request.stop_ids)
            if step + 1 == request.max_new_tokens or bool(finished.all()):
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            position = position + 1
            inputs = {"position_ids": position} if anatomy.takes_position_ids else {}
            output = anatomy.base(
                input_ids=token[:, None],
                attention_mask=mask,
                past_key_values=output.past_key_values,
                use_cache=True,
                **inputs,
            )
            _, token = _answer(anatomy, output, rows)
    return chosen.cpu(), generated.cpu()


@contextmanager
def _patched(anatomy: Anatomy, rows: _Rows, columns: Tensor) -> Iterator[None]:
    """Within the context, every block from a row's start layer on has its output overwritten."""
    index = torch.arange(len(rows.prompts), device=columns.device)

    def overwrite(layer: int, output: Any) -> None:
        states = block_output(output)
        patched = (rows.start_layers <= layer)[:, None]
        states[index, columns] = torch.where(
            patched, rows.patches[:, layer], states[index, columns]
        )

    with watched_blocks(anatomy, range(anatomy.n_layers), overwrite):
        yield


def _answer(anatomy: Anatomy, output: Any, rows: _Rows) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[row, k]` and greedy tokens `[row]` at the last column."""
    return answer(anatomy, output.last_hidden_state[:, -1], rows.token_ids, normed=True)
