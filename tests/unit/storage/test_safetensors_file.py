"""safetensors files are those that safetensors itself would write."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from glossogenesis.storage.tensors import write_safetensors

TENSORS = {
    "halves": torch.arange(3).to(torch.bfloat16),
    "flags": torch.tensor([True, False, True]),
    "steps": torch.tensor(5),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "nothing": torch.zeros(0, 4),
}


def test_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, TENSORS, {"format": "pt"})
    contiguous = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    assert path.read_bytes() == save(contiguous, metadata={"format": "pt"})


def test_every_tensor_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, TENSORS, {"z": "1", "a": "2"})
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"a": "2", "z": "1"}
