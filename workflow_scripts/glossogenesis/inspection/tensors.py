"""Summaries of the tensors in a safetensors file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor


def tensor_rows(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield name, type, shape, least, mean, greatest and number of NaN of each tensor, as text.

    Tensors are read one at a time. Numbers leave NaN out.
    """
    with safe_open(str(path), framework="pt") as file:
        for name in sorted(file.keys()):
            tensor: Tensor = file.get_tensor(name)
            shape = "[" + ", ".join(str(size) for size in tensor.shape) + "]"
            yield (name, str(tensor.dtype).removeprefix("torch."), shape, *_summary(tensor))


def _summary(tensor: Tensor) -> tuple[str, str, str, str]:
    """Return least, mean, greatest and number of NaN; the mean is taken in float64."""
    missing = tensor.isnan()
    numbers = tensor[~missing] if bool(missing.any()) else tensor
    count = f"{int(missing.sum()):,}"
    if numbers.numel() == 0:
        return "-", "-", "-", count
    mean = numbers.mean(dtype=torch.float64)
    return _short(numbers.min()), _short(mean), _short(numbers.max()), count


def _short(value: Tensor) -> str:
    return f"{float(value):.4g}"
