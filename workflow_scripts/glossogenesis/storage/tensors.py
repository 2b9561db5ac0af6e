"""safetensors files that carry their provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from glossogenesis.errors import StudyError
from glossogenesis.storage.files import sealed_path
from glossogenesis.storage.provenance import Provenance, provenance_in
from glossogenesis.storage.safetensors_file import write_safetensors
from glossogenesis.storage.seals import check_seal, sealed_metadata


def write_tensors(
    path: Path | str, tensors: Mapping[str, torch.Tensor], provenance: Provenance
) -> None:
    """Write named tensors atomically, with provenance and seal in the header."""
    with sealed_path(path) as temporary:
        write_safetensors(temporary, tensors, sealed_metadata(provenance))


def read_tensors(path: Path | str, names: list[str] | None = None) -> dict[str, torch.Tensor]:
    """Read the named tensors, or all; StudyError where the file or a tensor is missing."""
    with _opened(path) as file:
        held = set(file.keys())
        wanted = sorted(held) if names is None else names
        if missing := [name for name in wanted if name not in held]:
            raise StudyError(f"{path}: holds no tensor {missing[0]!r}; delete it and rerun")
        return {name: file.get_tensor(name) for name in wanted}


def read_provenance(path: Path | str) -> Provenance:
    """Read a safetensors file's provenance; StudyError where it is damaged or has none."""
    with _opened(path) as file:
        entries = file.metadata() or {}
    return provenance_in(entries, path)


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    """Open a safetensors file; StudyError where it is missing or damaged."""
    try:
        check_seal(path, "safetensors file")
        with safe_open(str(path), framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run the workflow to make it") from None
    except (SafetensorError, OSError) as error:
        raise StudyError(
            f"{path}: damaged safetensors file ({error}); delete it and rerun"
        ) from None
