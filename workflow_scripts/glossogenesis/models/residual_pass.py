"""One forward pass over a batch that puts every wanted layer's activations where they belong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import block_output


@dataclass(frozen=True)
class Destination:
    """Which tokens of a batch are kept, and the rows that their activations go to."""

    columns: Tensor
    """`[kept]`, int64: indices of the kept tokens in the flattened batch, on the CPU."""
    slots: Tensor
    """`[kept]`, int64: the row of each of them, on the CPU."""
    rows: Mapping[int, Tensor]
    """By wanted layer, `[row, d_model]`, in the dtype and on the device where they are kept."""


@torch.inference_mode()
def scatter_residuals(
    anatomy: Anatomy, token_ids: Tensor, mask: Tensor | None, destination: Destination
) -> bool:
    """Run the blocks up to the last wanted one; neither the final norm nor the head runs.

    Each layer's activations are cast and put into their rows by the hook that sees them, so that
    no second copy of a window is made.

    Args:
        anatomy: the model.
        token_ids: `[context, position]`, int64, on the CPU.
        mask: same shape, int64, 1 at tokens and 0 at padding, which is on the right; None where
            nothing is padded.
        destination: what is kept, and where.

    Returns:
        Whether all activations that were put into rows are finite.
    """
    inputs: dict[str, Any] = {"input_ids": token_ids.to(anatomy.device)}
    if mask is not None:
        inputs["attention_mask"] = mask.to(anatomy.device)
    with _scattering(anatomy, destination) as scatter:
        try:
            anatomy.base(**inputs, use_cache=False)
        except _AllLayersSeenError:
            return scatter.finish()
    raise AssertionError("the last wanted block did not run")


class _Scatter:
    """What hooks of one forward pass share."""

    def __init__(self, anatomy: Anatomy, destination: Destination) -> None:
        self._rows = destination.rows
        self._slots = destination.slots
        self._columns = destination.columns.to(anatomy.device)
        self._slots_beside_model = destination.slots.to(anatomy.device)
        self._last = max(destination.rows)
        self._sums: list[Tensor] = []
        self._arriving: dict[int, Tensor] = {}

    def see(self, layer: int, states: Tensor) -> None:
        """Keep the output `[context, position, d_model]` of one block."""
        flat = states.flatten(0, 1)
        if len(self._columns) < len(flat):
            flat = flat.index_select(0, self._columns)
        rows = self._rows[layer]
        # A sum is finite only where all its terms are: one number to look at instead of all.
        self._sums.append(flat.sum(dtype=torch.float32))
        flat = flat.to(rows.dtype)
        if flat.device == rows.device:
            rows.index_copy_(0, self._slots_beside_model, flat)
        else:
            # The GPU goes on with the next block while this one's copy is under way.
            self._arriving[layer] = flat.to(rows.device, non_blocking=True)
        if layer == self._last:
            raise _AllLayersSeenError

    def finish(self) -> bool:
        """Put what is still arriving into its rows; tell whether everything is finite."""
        # Reading the sums waits for the GPU, and so for the copies that were started before.
        finite = bool(torch.stack(self._sums).isfinite().all())
        for layer, arrived in self._arriving.items():
            self._rows[layer].index_copy_(0, self._slots, arrived)
        return finite


def hook_name(anatomy: Anatomy, layer: int) -> str:
    """Dotted name of a block in the whole model, such as `model.layers.3`."""
    block = anatomy.blocks[layer]
    names: dict[Any, str] = {module: name for name, module in anatomy.model.named_modules()}
    return names[block]


@contextmanager
def _scattering(anatomy: Anatomy, destination: Destination) -> Iterator[_Scatter]:
    scatter = _Scatter(anatomy, destination)

    def hook_for(layer: int) -> Any:
        def see(module: Any, inputs: Any, output: Any) -> None:
            scatter.see(layer, block_output(output))

        return see

    handles = [
        anatomy.blocks[layer].register_forward_hook(hook_for(layer)) for layer in destination.rows
    ]
    try:
        yield scatter
    finally:
        for handle in handles:
            handle.remove()


class _AllLayersSeenError(Exception):
    """Ends a forward pass after the last wanted block."""
