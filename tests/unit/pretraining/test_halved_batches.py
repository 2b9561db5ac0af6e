"""Halves of a batch give the gradient of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from glossogenesis.pretraining.optimizers import HalvedBatches


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_mean_of_halves_is_that_of_the_batch(rows: int) -> None:
    """Also of halves that differ in size; the loss of a row is the square of weight times row."""
    weight = nn.Parameter(torch.tensor([2.0, -1.0]))
    batch = torch.arange(2.0 * rows).reshape(rows, 2)

    def mean_loss(part: Tensor) -> Tensor:
        return (part * weight).sum(dim=1).square().mean()

    loss = HalvedBatches(mean_loss, [weight], "cpu").backward(batch)
    products = batch @ weight.detach()
    assert loss == pytest.approx(products.square().mean().item())
    expected = (2 * products[:, None] * batch).mean(dim=0)
    assert weight.grad is not None
    assert torch.allclose(weight.grad, expected)


def test_a_gpu_gets_the_batch_whole() -> None:
    weight, sizes = nn.Parameter(torch.ones(1)), []

    def mean_loss(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return (part * weight).mean()

    HalvedBatches(mean_loss, [weight], "cuda").backward(torch.ones(6, 1))
    HalvedBatches(mean_loss, [weight], "cpu").backward(torch.ones(6, 1))
    assert sizes == [6, 3, 3]
