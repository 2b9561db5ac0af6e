"""The learning rate over training, and the optimizer of matrices."""

import itertools

import pytest
import torch

from glossogenesis.models.muon import Muon, orthogonalise
from glossogenesis.models.pretraining_optimizers import rate_factor
from tiny_pretraining import settings_of


def test_the_rate_rises_then_falls_to_its_last_share():
    settings = settings_of(steps={1: 60, 2: 40}, optimizer={"warmup_steps": 10, "final_share": 0.2})
    factors = [rate_factor(step, settings) for step in range(1, 101)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert factors[-1] == pytest.approx(0.2)
    assert all(after <= before for before, after in itertools.pairwise(factors[9:]))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 12, 5), (2, 5, 12)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    generator = torch.Generator().manual_seed(0)
    result = orthogonalise(torch.randn(shape, generator=generator))
    values = torch.linalg.svdvals(result)
    assert result.shape == shape
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_scales_by_outputs_over_inputs_however_a_matrix_lies():
    gradient = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    updated = []
    for inputs_first in (False, True):
        matrix = torch.nn.Parameter(torch.zeros(2, 8) if inputs_first else torch.zeros(8, 2))
        matrix.grad = (gradient.T if inputs_first else gradient).clone()
        Muon([{"params": [matrix], "inputs_first": inputs_first}], lr=1.0).step()
        updated.append(matrix.detach())
    torch.testing.assert_close(updated[0], updated[1].T)
    assert torch.linalg.svdvals(updated[0]).max() > 1.2  # sqrt(8 / 2) times nearly 1
