"""safetensors files: values, provenance, a choice of tensors, and damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tensors import read_provenance, read_tensors, write_tensors

ORIGIN = Provenance("states", "demo", {}, {}, "ab", libraries={}, facts={"concepts": ["cat"]})
TENSORS = {
    "es-ru": torch.arange(6.0).reshape(2, 3).T,
    "ru-es": torch.ones(2, dtype=torch.bfloat16),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "states.safetensors"
    write_tensors(path, TENSORS, ORIGIN)
    return path


def test_values_and_provenance_survive(path: Path) -> None:
    read = read_tensors(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype
    assert read_provenance(path) == ORIGIN


def test_reads_only_what_is_asked_for(path: Path) -> None:
    assert list(read_tensors(path, ["ru-es"])) == ["ru-es"]
    with pytest.raises(StudyError, match=r"holds no tensor 'fi-es'; delete it and rerun"):
        read_tensors(path, ["fi-es"])


def test_damaged_files_are_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    for read in (read_tensors, read_provenance):
        with pytest.raises(StudyError, match=r"states.safetensors: damaged safetensors file"):
            read(path)
    path.unlink()
    for read in (read_tensors, read_provenance):
        with pytest.raises(StudyError, match=r"states.safetensors: no such file; run the workflow"):
            read(path)


def test_tensors_of_others_have_no_provenance(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "theirs.safetensors")
    with pytest.raises(StudyError, match=r"theirs.safetensors: carries no provenance"):
        read_provenance(tmp_path / "theirs.safetensors")
