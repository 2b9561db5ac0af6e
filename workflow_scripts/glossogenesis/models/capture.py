"""Read the residual stream after some blocks, at one position of each prompt or at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.padding import batches_by_length, pad_left


@torch.inference_mode()
def residual_at(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    batch_size: int,
    layers: Sequence[int] | None = None,
    on_batch: Callable[[int], object] | None = None,
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
        on_batch: told how many prompts each pass finished.

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
        inputs = {**padded.model_inputs(anatomy), "use_cache": False}
        captured = read_layers(anatomy, inputs, wanted, lambda stream: stream[:, -1])
        result[batch] = torch.stack([captured[layer] for layer in wanted], dim=1).cpu()
        if on_batch is not None:
            on_batch(len(batch))
    return result


def read_layers(
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    layers: Sequence[int],
    part: Callable[[Tensor], Tensor] = lambda stream: stream,
) -> dict[int, Tensor]:
    """A copy of the residual stream after the blocks of some layers, by layer; see `run_up_to`.

    Args:
        anatomy: the model.
        inputs: keyword arguments of the model's forward pass.
        layers: the wanted layers, at least one.
        part: what is kept of a stream `[prompt, column, d_model]`; all of it by default.
    """
    streams: dict[int, Tensor] = {}

    def keep(layer: int, output: Any) -> None:
        # A model may go on to change the tensor in place.
        streams[layer] = part(block_output(output)).clone()

    run_up_to(anatomy, inputs, layers, keep)
    return streams


def run_up_to(
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    layers: Sequence[int],
    watch: Callable[[int, Any], None],
) -> None:
    """Run a forward pass that ends after the highest of `layers`, by an internal exception.

    `watch` is as of `watched_blocks`. A cache of keys and values among the `inputs`, which are the
    pass' keyword arguments, grows in the blocks that ran.
    """
    last = max(layers)

    def watch_and_end(layer: int, output: Any) -> None:
        watch(layer, output)
        if layer == last:
            raise _LastLayerError

    with watched_blocks(anatomy, layers, watch_and_end):
        try:
            anatomy.base(**inputs)
        except _LastLayerError:
            return
    raise AssertionError("the last wanted block did not run")


@contextmanager
def watched_blocks(
    anatomy: Anatomy, layers: Iterable[int], watch: Callable[[int, Any], Any]
) -> Iterator[None]:
    """Within the context, `watch` is given each wanted layer and what its block returns.

    What `watch` returns stands in for it, but for None.
    """

    def hook_for(layer: int) -> Any:
        return lambda module, inputs, output: watch(layer, output)

    handles = [
        anatomy.blocks[layer].register_forward_hook(hook_for(layer)) for layer in set(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def block_output(output: Any) -> Tensor:
    """The residual stream in what a block returns: a tensor, or a tuple that starts with it."""
    tensor: Tensor = output if isinstance(output, Tensor) else output[0]
    return tensor


@contextmanager
def changed_layer(
    anatomy: Anatomy, layer: int, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Within the context, `change` maps the output `[prompt, column, d_model]` of one block."""

    def replace(layer: int, output: Any) -> Any:
        stream = change(block_output(output))
        return stream if isinstance(output, Tensor) else (stream, *output[1:])

    with watched_blocks(anatomy, [layer], replace):
        yield


class _LastLayerError(Exception):
    """Ends a forward pass after the last wanted block."""


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
