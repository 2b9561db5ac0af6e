"""One shard: a safetensors file that is hashed while it is written and before it is used."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from glossogenesis.errors import StudyError
from glossogenesis.provenance import Provenance
from glossogenesis.storage.activations.rows import ActivationRows
from glossogenesis.storage.atomic import atomic_path

_FORMAT_NAMES = {
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.uint8: "U8",
}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OPTIONS = (
    "Free some space, or write less: fewer `layers` or `train_tokens`, `features.activations."
    "dtype: bfloat16`, or `features.activations.mode: stream`, which writes held-out activations "
    "alone; `glossogenesis purge` deletes activations that are no longer needed"
)


@dataclass(frozen=True)
class ShardFacts:
    """What a manifest records of a shard."""

    file: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> ShardFacts:
        """Read an entry of a manifest; TypeError where keys are missing or too many."""
        return cls(**entry)


def write_shard(path: Path, rows: ActivationRows, provenance: Provenance) -> ShardFacts:
    """Write the rows atomically as safetensors; return the facts for the manifest.

    The file is written here and not by safetensors' own writer, so that it is hashed on the way,
    no tensor is copied, and a full disk is told apart.

    Raises:
        StudyError: the disk is full; nothing of this shard remains.
    """
    header, tensors = _header(rows.tensors, provenance)
    parts: list[bytes | memoryview] = [header, *map(_bytes_of, tensors)]
    digest = hashlib.sha256()
    size = 0
    with full_disk_in_one_line(path), atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            digest.update(part)
            size += file.write(part)
    return ShardFacts(path.name, len(rows), size, digest.hexdigest())


def read_shard(path: Path, facts: ShardFacts, mend: str, *, verify: bool) -> ActivationRows:
    """Read a shard; its size, and with `verify` its SHA-256, must be what the manifest records.

    Raises:
        StudyError: it is missing, truncated or changed; `mend` says what to do.
    """
    data = _contents(path, facts, mend)
    if verify and hashlib.sha256(data).hexdigest() != facts.sha256:
        raise StudyError(f"{path}: its bytes are not those that were written; {mend}")
    try:
        return ActivationRows(**load(data))
    except (SafetensorError, TypeError) as error:
        raise StudyError(f"{path}: not a shard of activations ({error}); {mend}") from None


@contextmanager
def full_disk_in_one_line(path: Path) -> Iterator[None]:
    """Turn what a full disk or an exhausted quota raises into StudyError with the options."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise StudyError(
            f"{path}: the disk is full. {_OPTIONS}. What is finished stays: rerun to continue"
        ) from None


def require_room(folder: Path, needed: int) -> None:
    """StudyError where a folder's disk has less room than `needed` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StudyError(
            f"{folder}: {needed / 1e9:.2f} GB of activations do not fit into the "
            f"{free / 1e9:.2f} GB that are free. {_OPTIONS}"
        )


def is_intact(path: Path, facts: ShardFacts) -> bool:
    """Whether a shard is there with the size and SHA-256 that were recorded."""
    if not path.is_file() or path.stat().st_size != facts.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == facts.sha256


def _contents(path: Path, facts: ShardFacts, mend: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise StudyError(f"{path}: the shard is missing; {mend}") from None
    except OSError as error:
        raise StudyError(f"{path}: the shard cannot be read ({error.strerror}); {mend}") from None
    if len(data) != facts.bytes:
        raise StudyError(f"{path}: {len(data)} bytes long, not {facts.bytes}; {mend}")
    return data


def _header(tensors: Mapping[str, Tensor], provenance: Provenance) -> tuple[bytes, list[Tensor]]:
    """Header of a safetensors file, and its tensors in the order in which their bytes follow."""
    # Wide numbers first keeps every tensor aligned to its numbers, as the format asks.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    entries: dict[str, Any] = {"__metadata__": provenance.to_metadata()}
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
    return len(text).to_bytes(8, "little") + text, [tensor for _, tensor in ordered]


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return flat.numpy().data
