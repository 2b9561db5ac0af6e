"""Forward hooks that read or replace the outputs of components."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.robustness.components.rows import (
    ComponentRows,
    ComponentValues,
    Outputs,
    Where,
    component_modules,
)


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
