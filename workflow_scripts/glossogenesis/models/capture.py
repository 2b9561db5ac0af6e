"""Capture the residual stream at one position of each prompt, all layers in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.padding import PaddedBatch, batches_by_length, pad_left


@torch.inference_mode()
def residual_at(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    batch_size: int,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """Residual stream after the wanted blocks at one position of each prompt.

    The forward pass ends after the last wanted block, so neither the final norm nor the head runs.
    Each prompt is cut after its position, since later tokens cannot change it.

    Args:
        anatomy: the model.
        token_ids: prompts; lengths may differ.
        positions: for each prompt, the index of the wanted token in it.
        batch_size: prompts in one forward pass; it does not change the result.
        layers: the wanted layers in the order of the result; all of them where None.

    Returns:
        `[prompt, layer, d_model]` on the CPU, in the model's dtype, prompts in the order given.

    Raises:
        ValueError: a position or layer is outside its prompt or model.
    """
    wanted = list(range(anatomy.n_layers) if layers is None else layers)
    _check(anatomy, token_ids, positions, wanted)
    result = torch.empty(len(token_ids), len(wanted), anatomy.d_model, dtype=anatomy.dtype)
    cut = [list(ids[: position + 1]) for ids, position in zip(token_ids, positions, strict=True)]
    for batch in batches_by_length([len(ids) for ids in cut], batch_size):
        padded = pad_left([cut[index] for index in batch], anatomy.device)
        with last_column_of(anatomy, wanted) as captured:
            _run_base(anatomy, padded)
        result[batch] = torch.stack([captured[layer] for layer in wanted], dim=1).cpu()
    return result


@contextmanager
def last_column_of(anatomy: Anatomy, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Within the context, a forward pass fills the yielded dict: layer to `[prompt, d_model]`.

    The pass is ended by an internal exception after the highest of `layers`.
    """
    captured: dict[int, Tensor] = {}
    last = max(layers)

    def hook_for(layer: int) -> Any:
        def keep(module: Any, inputs: Any, output: Any) -> None:
            captured[layer] = block_output(output)[:, -1].clone()
            if layer == last:
                raise _CapturedError

        return keep

    handles = [
        anatomy.blocks[layer].register_forward_hook(hook_for(layer)) for layer in set(layers)
    ]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def block_output(output: Any) -> Tensor:
    """The residual stream in what a block returns: a tensor, or a tuple that starts with it."""
    tensor: Tensor = output if isinstance(output, Tensor) else output[0]
    return tensor


class _CapturedError(Exception):
    """Ends a forward pass once every wanted layer is captured."""


def _run_base(anatomy: Anatomy, padded: PaddedBatch) -> None:
    try:
        anatomy.base(**padded.model_inputs(anatomy), use_cache=False)
    except _CapturedError:
        return


def _check(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    layers: Sequence[int],
) -> None:
    if len(token_ids) != len(positions):
        raise ValueError(f"{len(token_ids)} prompts but {len(positions)} positions")
    for index, (ids, position) in enumerate(zip(token_ids, positions, strict=True)):
        if not 0 <= position < len(ids):
            raise ValueError(f"prompt {index}: position {position} is not in 0..{len(ids) - 1}")
    for layer in layers:
        if not 0 <= layer < anatomy.n_layers:
            raise ValueError(f"layer {layer} is not in 0..{anatomy.n_layers - 1}")
    if not layers:
        raise ValueError("no layer is wanted")
