"""safetensors files that carry their provenance, and states of unfinished trainings in such files.

They are put together here and not by safetensors' own writer, so that no tensor is copied, a file
can be hashed on the way, metadata keeps its order, and a killed process leaves no temporary file of
a name that nobody knows.

One safetensors file holds weights and moments, and the rest as JSON in its header. It lies in a
folder named by a digest of all that the training depends on, so that no other training takes it up.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import sealed_path
from glossogenesis.storage.provenance import (
    Provenance,
    SealState,
    check_seal,
    provenance_in,
    seal_state,
    sealed_json,
    sealed_metadata,
)

_FORMAT_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

FILE_NAME = "state.safetensors"
HEADER_KEY = "progress"

SHARE_OF_TIME = 0.05
"""Of the time, at most about this share goes into keeping the state."""


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


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write named tensors with metadata; equal content gives equal bytes. Not atomic."""
    with path.open("wb") as file:
        for part in safetensors_parts(tensors, metadata):
            file.write(part)


def safetensors_parts(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a safetensors file: its header, then every tensor's."""
    # Wide numbers first keeps every tensor aligned to its numbers, as the format asks.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, tensor in ordered:
        end = start + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _FORMAT_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in ordered:
        yield _bytes_of(tensor)


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return flat.numpy().data


@dataclass(frozen=True)
class ResumeState:
    """Keeps and finds the state of one training in `folder`, which is that job's alone."""

    folder: Path
    digest: str

    @property
    def path(self) -> Path:
        """The file that holds the state."""
        return self.folder / self.digest / FILE_NAME

    def save(self, tensors: Mapping[str, Tensor], facts: Any) -> None:
        """Replace the state; `facts` is anything JSON holds, and floats come back exactly."""
        header = {HEADER_KEY: sealed_json({"facts": facts})}
        with sealed_path(self.path) as temporary:
            write_safetensors(temporary, tensors, header)

    def load(self) -> tuple[dict[str, Tensor], Any] | None:
        """Return tensors and facts; None without a state, or where it is damaged."""
        try:
            if seal_state(self.path) is not SealState.WHOLE:
                return None
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads(file.metadata()[HEADER_KEY])["facts"]
                names = file.keys()
                return {name: file.get_tensor(name) for name in names}, facts
        except (FileNotFoundError, SafetensorError):
            return None

    def remove(self) -> None:
        """Remove the state, and those of trainings with other settings that were given up."""
        if not self.folder.is_dir():
            return
        for state in self.folder.glob(f"*/{FILE_NAME}"):
            shutil.rmtree(state.parent)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


class StateKeeper:
    """Decides when to keep the state: every so many seconds, and more rarely if that is slow."""

    def __init__(self, state: ResumeState, seconds_between: float) -> None:
        self._state = state
        self._seconds_between = seconds_between
        self._due = time.monotonic() + seconds_between

    def keep_if_due(self, state_now: Callable[[], tuple[Mapping[str, Tensor], Any]]) -> None:
        """Keep the state that `state_now` returns, if it is time."""
        start = time.monotonic()
        if start < self._due:
            return
        self._state.save(*state_now())
        end = time.monotonic()
        pause = self._seconds_between
        if pause > 0:
            pause = max(pause, (end - start) / SHARE_OF_TIME)
        self._due = end + pause
