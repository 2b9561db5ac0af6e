"""The fast engine against the reference, on every architecture."""

from __future__ import annotations

import pytest
import torch
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.patching.fast import run_fast
from glossogenesis.patching.reference import run_reference
from patch_requests import assert_equal_runs, request_for
from tiny_models import ARCHITECTURES, tiny_anatomy


@pytest.fixture(params=ARCHITECTURES)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_anatomy(request.param)


def test_equals_reference(anatomy: Anatomy) -> None:
    request = request_for(anatomy)
    expected = run_reference(anatomy, request, batch_size=3)
    for batch_size in (1, 16):
        assert_equal_runs(run_fast(anatomy, request, batch_size=batch_size), expected)
