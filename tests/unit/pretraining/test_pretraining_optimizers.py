"""The learning rate over training, and the optimizer of matrices."""

import itertools

import pytest
import torch
from torch.optim import Muon

from glossogenesis.pretraining.optimizers import muon_group, rate_factor
from glossogenesis.study.pretrain import OptimizerSettings
from support.tiny_pretraining import settings_of


def test_the_rate_rises_then_falls_to_its_last_share():
    settings = settings_of(steps={1: 60, 2: 40}, optimizer={"warmup_steps": 10, "final_share": 0.2})
    factors = [rate_factor(step, settings) for step in range(1, 101)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert factors[-1] == pytest.approx(0.2)
    assert all(after <= before for before, after in itertools.pairwise(factors[9:]))


@pytest.mark.parametrize("outputs", [2, 8])
def test_muon_scales_by_outputs_over_inputs_however_a_matrix_lies(outputs):
    gradient = torch.randn(outputs, 4, generator=torch.Generator().manual_seed(0))
    settings = OptimizerSettings(name="muon", matrix_rate=1.0, weight_decay=0.5)
    updated = []
    for inputs_first in (False, True):
        matrix = torch.nn.Parameter(torch.ones_like(gradient.T if inputs_first else gradient))
        matrix.grad = (gradient.T if inputs_first else gradient).clone()
        Muon([muon_group(matrix, settings, inputs_first)]).step()
        updated.append(matrix.detach())
    torch.testing.assert_close(updated[0], updated[1].T, atol=0.02, rtol=0.02)
    # One half is what weight decay leaves.
    largest = torch.linalg.svdvals(updated[0] - 0.5).max()
    assert largest == pytest.approx(max(1, outputs / 4) ** 0.5, rel=0.3)
