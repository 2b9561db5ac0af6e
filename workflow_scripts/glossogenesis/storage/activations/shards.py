"""One shard: a safetensors file that is hashed while it is written and before it is used."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load

from glossogenesis.errors import StudyError
from glossogenesis.storage.activations.rows import ActivationRows
from glossogenesis.storage.files import atomic_path
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.records import Count, PlainName
from glossogenesis.storage.safetensors_file import safetensors_parts

OPTIONS = (
    "Free some space, or write less: fewer `layers` or `train_tokens`, `activations.dtype: "
    "bfloat16`, or in a features study `activations.mode: stream`, which writes held-out "
    "activations alone; `glossogenesis purge` deletes activations that are no longer needed"
)
"""What to do where a disk is too small for activations."""


@dataclass(frozen=True)
class ShardFacts:
    """What a manifest records of a shard."""

    file: PlainName
    rows: Count
    bytes: Count
    sha256: str


def write_shard(path: Path, rows: ActivationRows, provenance: Provenance) -> ShardFacts:
    """Write the rows atomically as safetensors; return the facts for the manifest.

    Raises:
        StudyError: the disk is full; nothing of this shard remains.
    """
    digest = hashlib.sha256()
    size = 0
    with atomic_path(path, OPTIONS) as temporary, temporary.open("wb") as file:
        for part in safetensors_parts(rows.tensors, provenance.to_metadata()):
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


def require_room(folder: Path, needed: int) -> None:
    """StudyError where a folder's disk has less room than `needed` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StudyError(
            f"{folder}: {needed / 1e9:.2f} GB of activations do not fit into the "
            f"{free / 1e9:.2f} GB that are free. {OPTIONS}"
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
