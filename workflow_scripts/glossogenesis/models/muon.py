"""The Muon optimizer in float32, for the matrices of a model's blocks.

`torch.optim.Muon` orthogonalises in bfloat16, one matrix at a time; this one does it in float32,
all matrices of one shape together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration (Jordan et al. 2024)."""

ITERATIONS = 5
SMALLEST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum whose update is replaced by the nearest matrix with equal singular values.

    Nesterov momentum `(1 - mu) g + mu m` with `m = mu m + (1 - mu) g`, orthogonalised, scaled by
    `sqrt(max(1, outputs / inputs))`, with decoupled weight decay (Jordan et al. 2024; Liu et al.
    2025). Matrices of one shape are orthogonalised together. A group of parameters with
    `inputs_first` holds matrices [input, output]; elsewhere rows are outputs.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(matrices, {**defaults, "inputs_first": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is used
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for (rows, columns), matrices in by_shape.items():
                updates = orthogonalise(
                    torch.stack([self._direction(matrix, group["momentum"]) for matrix in matrices])
                )
                outputs, inputs = (columns, rows) if group["inputs_first"] else (rows, columns)
                scale = max(1.0, outputs / inputs) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-group["lr"] * scale)

    def _direction(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """Return the Nesterov momentum and keep the plain one as state."""
        gradient = matrix.grad
        assert gradient is not None
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        held = state["momentum"]
        held.lerp_(gradient, 1 - momentum)
        return gradient.lerp(held, momentum)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1, keeping the singular vectors.

    `matrices` and the result are [matrix, row, column] float32.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.mT
    x = x / x.flatten(1).norm(dim=1).clamp_min(SMALLEST_NORM)[:, None, None]
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT
