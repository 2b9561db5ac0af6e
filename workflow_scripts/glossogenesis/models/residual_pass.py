"""One forward pass over a batch that puts every wanted layer's activations where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import block_output, run_up_to


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
    inputs: dict[str, Any] = {"input_ids": token_ids.to(anatomy.device), "use_cache": False}
    if mask is not None:
        inputs["attention_mask"] = mask.to(anatomy.device)
    scatter = _Scatter(anatomy, destination)
    run_up_to(anatomy, inputs, list(destination.rows), scatter.see)
    return scatter.finish()


class _Scatter:
    """What hooks of one forward pass share."""

    def __init__(self, anatomy: Anatomy, destination: Destination) -> None:
        self._rows = destination.rows
        self._slots = destination.slots
        self._columns = destination.columns.to(anatomy.device)
        self._slots_beside_model = destination.slots.to(anatomy.device)
        self._sums: list[Tensor] = []
        self._arriving: dict[int, Tensor] = {}

    def see(self, layer: int, output: Any) -> None:
        """Keep the residual stream `[context, position, d_model]` in what one block returns."""
        flat = block_output(output).flatten(0, 1)
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
