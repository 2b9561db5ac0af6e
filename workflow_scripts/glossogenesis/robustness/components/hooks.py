"""Component patching the plain way: forward hooks, and every row's prompt in full.

This is what the fast engine is tested and measured against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.models.batches import PaddedBatch, batches_by_length, pad_left
from glossogenesis.robustness.components.rows import (
    ComponentRows,
    ComponentValues,
    OnBatch,
    Outputs,
    Where,
    check_prompts,
    check_rows,
    component_modules,
)


@torch.inference_mode()
def capture_by_hooks(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    *,
    outputs: Outputs,
    batch_size: int,
    added: ComponentValues | None = None,
) -> tuple[ComponentValues, Tensor]:
    """See `fast.capture_components`; `batch_size` full prompts in a forward pass."""
    check_prompts(anatomy, token_ids)
    values = ComponentValues.empty(anatomy, len(token_ids))
    logits = torch.empty(len(token_ids), anatomy.config.num_labels)
    for batch in batches_by_length([len(ids) for ids in token_ids], batch_size):
        padded = pad_left([token_ids[index] for index in batch], anatomy.device)
        last = torch.full((len(batch),), padded.token_ids.shape[1] - 1, device=anatomy.device)
        with (
            recording(anatomy, outputs, last) as recorded,
            recording(anatomy, "added", last) as recorded_added,
            _embeddings(anatomy) as embeddings,
        ):
            logits[batch] = _logits(anatomy, padded)
        values.put(batch, recorded, embeddings[0])
        if added is not None:
            added.put(batch, recorded_added, embeddings[0])
    return values, logits


@torch.inference_mode()
def run_by_hooks(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    rows: ComponentRows,
    values: ComponentValues,
    *,
    outputs: Outputs,
    positions: Where,
    batch_size: int,
    on_batch: OnBatch | None = None,
    added: ComponentValues | None = None,
) -> Tensor:
    """See `effects.run_components`; `batch_size` full prompts in a forward pass."""
    check_rows(anatomy, token_ids, rows, values)
    logits = torch.empty(len(rows), anatomy.config.num_labels)
    prompts = rows.prompts.tolist()
    for batch in batches_by_length([len(token_ids[prompt]) for prompt in prompts], batch_size):
        part = rows.take(batch)
        padded = pad_left([token_ids[prompts[row]] for row in batch], anatomy.device)
        last = torch.full((len(batch),), padded.token_ids.shape[1] - 1, device=anatomy.device)
        with (
            replacing(anatomy, part, values, outputs=outputs, where=positions),
            recording(anatomy, "added", last) as recorded,
            _embeddings(anatomy, part, values, where=positions) as embeddings,
        ):
            logits[batch] = _logits(anatomy, padded)
        if added is not None:
            as_they_are = (~(part.replaced.any(dim=(1, 2)) | part.embedding)).nonzero()[:, 0]
            index = as_they_are.to(recorded.device)
            added.put(part.prompts[as_they_are].tolist(), recorded[index], embeddings[0][index])
        if on_batch is not None:
            on_batch(len(batch))
    return logits


def _logits(anatomy: Anatomy, padded: PaddedBatch) -> Tensor:
    """The model's own logits `[prompt, label]`, float32 on the CPU."""
    if anatomy.config.pad_token_id is None and len(padded.token_ids) > 1:
        raise StudyError(
            "the classifier's configuration has no `pad_token_id`, without which transformers "
            "classifies one post at a time; fine-tune it again, or patch in mode `fast`"
        )
    logits: Tensor = anatomy.model(**padded.model_inputs(anatomy), use_cache=False).logits
    return logits.float().cpu()


@contextmanager
def _embeddings(
    anatomy: Anatomy,
    rows: ComponentRows | None = None,
    values: ComponentValues | None = None,
    *,
    where: Where = "last",
) -> Iterator[list[Tensor]]:
    """Within the context, what enters block 0 at the last column is kept in the yielded list.

    Where rows are given, it is replaced first in those that say so.
    """
    kept: list[Tensor] = []

    def hook(module: Any, inputs: Any) -> None:
        hidden = inputs[0]
        if rows is not None and values is not None:
            new = values.embeddings[rows.sources[rows.embedding]].to(hidden)
            chosen = rows.embedding.to(hidden.device)
            if where == "all":
                hidden[chosen] = new[:, None]
            else:
                hidden[chosen, -1] = new
        kept.append(hidden[:, -1].clone())

    handle = anatomy.blocks[0].register_forward_pre_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def recording(anatomy: Anatomy, outputs: Outputs, columns: Tensor) -> Iterator[Tensor]:
    """Within the context, a forward pass fills the yielded `[prompt, layer, component, d_model]`.

    Args:
        anatomy: the model.
        outputs: see `Outputs`.
        columns: `[prompt]`, the column of each prompt's last token. Where a block runs on one
            column alone, that is the one.
    """
    n_prompts = len(columns)
    shape = (n_prompts, anatomy.n_layers, len(COMPONENTS), anatomy.d_model)
    recorded = torch.empty(shape, dtype=anatomy.dtype, device=anatomy.device)
    index = torch.arange(n_prompts, device=columns.device)

    def hook_for(layer: int, component: int) -> Any:
        def record(module: Any, inputs: Any, output: Tensor) -> None:
            one = output.shape[1] == 1
            recorded[:, layer, component] = output[:, 0] if one else output[index, columns]

        return record

    with _hooked(anatomy, outputs, hook_for):
        yield recorded


@contextmanager
def summing(anatomy: Anatomy, outputs: Outputs, mask: Tensor) -> Iterator[Tensor]:
    """Within the context, a forward pass adds to the yielded `[layer, component, d_model]`.

    Outputs are summed in float64 over the tokens that `mask` has, bool `[prompt, column]`.
    """
    shape = (anatomy.n_layers, len(COMPONENTS), anatomy.d_model)
    total = torch.zeros(shape, dtype=torch.float64, device=anatomy.device)

    def hook_for(layer: int, component: int) -> Any:
        def add(module: Any, inputs: Any, output: Tensor) -> None:
            total[layer, component] += output[mask].double().sum(dim=0)

        return add

    with _hooked(anatomy, outputs, hook_for):
        yield total


@contextmanager
def replacing(
    anatomy: Anatomy,
    rows: ComponentRows,
    values: ComponentValues,
    *,
    outputs: Outputs,
    where: Where = "last",
) -> Iterator[None]:
    """Within the context, rows of a forward pass have outputs of components replaced.

    The pass holds the first of `rows`, or all of them, one a batch entry, each prompt's last token
    in the last column. Embeddings are left alone.
    """
    held, places = values.of(rows.sources, torch.empty(0, dtype=anatomy.dtype))
    held_outputs = held.outputs.to(anatomy.device)

    def hook_for(layer: int, component: int) -> Any:
        chosen = rows.replaced[:, layer, component].nonzero()[:, 0]

        def replace(module: Any, inputs: Any, output: Tensor) -> Tensor:
            present = chosen[chosen < len(output)]
            if len(present):
                new = held_outputs[places[present].to(output.device), layer, component]
                index = present.to(output.device)
                if where == "all":
                    output[index] = new[:, None]
                else:
                    output[index, -1] = new
            return output

        return replace

    with _hooked(anatomy, outputs, hook_for):
        yield


@contextmanager
def _hooked(anatomy: Anatomy, outputs: Outputs, hook_for: Any) -> Iterator[None]:
    handles = [
        module.register_forward_hook(hook_for(layer, component))
        for component, modules in enumerate(component_modules(anatomy, outputs))
        for layer, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
