"""A model is in float32 within the block alone, and afterwards the same to the last bit."""

from __future__ import annotations

import pytest
import torch

from glossogenesis.models.capture import in_float32
from support.tiny_models import tiny_anatomy


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "bloom", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_come_back(architecture: str, dtype: torch.dtype) -> None:
    anatomy = tiny_anatomy(architecture)
    # As loading does, which leaves buffers such as frequencies of positions in float32.
    for weight in anatomy.model.parameters():
        weight.data = weight.data.to(dtype)
    tensors = [*anatomy.model.parameters(), *anatomy.model.buffers()]
    before = [tensor.clone() for tensor in tensors]
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    logits = anatomy.model(ids).logits
    with in_float32(anatomy.model):
        assert anatomy.dtype == torch.float32
        exact = anatomy.model(ids).logits
        assert exact.dtype == torch.float32
    assert anatomy.dtype == dtype
    for tensor, old in zip(tensors, before, strict=True):
        assert tensor.dtype == old.dtype
        assert torch.equal(tensor, old)
    assert torch.equal(anatomy.model(ids).logits, logits)
    assert torch.equal(exact, logits) == (dtype == torch.float32)


def test_weights_come_back_where_the_block_fails() -> None:
    anatomy = tiny_anatomy("llama")
    anatomy.model.to(torch.bfloat16)
    with pytest.raises(RuntimeError, match="broken"), in_float32(anatomy.model):
        raise RuntimeError("broken")
    assert anatomy.dtype == torch.bfloat16
