"""Read a model's residual stream at some layers, and change it at one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import block_output


class _LastLayerReadError(Exception):
    """Ends a forward pass once every wanted layer is read."""


def read_layers(
    anatomy: Anatomy, inputs: Mapping[str, Any], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Residual stream `[prompt, column, d_model]` after the blocks of some layers, by layer.

    The forward pass, which takes `inputs` as its keyword arguments, ends after the last of them. A
    cache of keys and values among the inputs grows in the blocks that ran.
    """
    streams: dict[int, Tensor] = {}
    last = max(layers)

    def hook_for(layer: int) -> Any:
        def keep(module: Any, arguments: Any, output: Any) -> None:
            # A model may go on to change the tensor in place.
            streams[layer] = block_output(output).clone()
            if layer == last:
                raise _LastLayerReadError

        return keep

    handles = [
        anatomy.blocks[layer].register_forward_hook(hook_for(layer)) for layer in set(layers)
    ]
    try:
        anatomy.base(**inputs)
    except _LastLayerReadError:
        return streams
    finally:
        for handle in handles:
            handle.remove()
    raise AssertionError("the last wanted block did not run")


@contextmanager
def changed_layer(
    anatomy: Anatomy, layer: int, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Within the context, `change` maps the output `[prompt, column, d_model]` of one block."""

    def replace(module: Any, arguments: Any, output: Any) -> Any:
        changed = change(block_output(output))
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    handle = anatomy.blocks[layer].register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
