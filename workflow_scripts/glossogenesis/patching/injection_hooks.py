"""Change a model's residual stream after one block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import block_output, with_block_output


@contextmanager
def changed_layer(
    anatomy: Anatomy, layer: int, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Within the context, `change` maps the output `[prompt, column, d_model]` of one block."""

    def replace(module: Any, arguments: Any, output: Any) -> Any:
        return with_block_output(output, change(block_output(output)))

    handle = anatomy.blocks[layer].register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
