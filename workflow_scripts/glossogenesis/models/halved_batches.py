"""Training on processor cores: the halves of a batch at once, a thread each.

Threads that share every product wait for each other thousands of times a step, and where another
program takes a core, each wait lasts until the scheduler gives it back. Halves wait once a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn


class HalvedBatches:
    """Gradients of mean losses, and updates; the same bytes whether one thread computes or two.

    Of more threads than two, each half gets half; their number then changes the last bits. On a GPU
    a batch stays whole.
    """

    def __init__(
        self, loss_of: Callable[[Tensor], Tensor], weights: Sequence[nn.Parameter], device: str
    ) -> None:
        """Start the threads, as many as PyTorch has now; `loss_of` gives the mean loss of rows."""
        threads = torch.get_num_threads()
        self._loss_of = loss_of
        self._weights = weights
        self._parts = 2 if device == "cpu" else 1
        self._pool = ThreadPoolExecutor(
            min(self._parts, threads),
            initializer=torch.set_num_threads,
            initargs=(max(1, threads // 2),),
        )

    def backward(self, batch: Tensor) -> float:
        """Set the weights' gradients of the mean loss of `batch` [row, position]; return that loss.

        All weights take part in the loss.
        """
        halves = batch.chunk(self._parts)
        shares = [len(half) / len(batch) for half in halves]
        computed = list(self._pool.map(self._of_part, halves, shares))
        for weight, first, *other in zip(self._weights, *(of for _, of in computed), strict=True):
            weight.grad = first.add_(other[0]) if other else first
        return math.fsum(loss for loss, _ in computed)

    def run(self, update: Callable[[], None]) -> None:
        """Run an update of the weights with the threads of a half."""
        self._pool.submit(update).result()

    def _of_part(self, part: Tensor, share: float) -> tuple[float, tuple[Tensor, ...]]:
        loss = self._loss_of(part) * share
        return loss.item(), torch.autograd.grad(loss, self._weights)
