"""A model in float32 for a while, whatever its number format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Hold a model's weights in float32 within the block.

    Float32 has every number of the shorter formats, so that afterwards the weights are the same to
    the last bit. Meanwhile they take up to twice the memory; nothing is loaded again.
    """
    tensors = [*model.parameters(), *model.buffers()]
    formats = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(torch.float32)
        yield
    finally:
        for tensor, dtype in zip(tensors, formats, strict=True):
            tensor.data = tensor.data.to(dtype)
