"""What artifacts say of themselves: what made them, and a digest of their own bytes.

The digest is that of the file with the digest's own digits as zeros, so it covers every byte: data,
header, footer and the provenance that it stands in. Other programs see one more text among the
metadata, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from glossogenesis.exceptions import NotFiniteError, StudyError

SCHEMA_VERSION = 1
"""Raised when the format of an artifact changes; part of every code digest."""

METADATA_KEY = "glossogenesis"

SEAL_KEY = "file_seal"
"""Beside the provenance in a file's metadata: the digest of the file; see `storage.provenance`."""

LEFT_OUT = "left_out"
"""The fact of an artifact that is empty, as its checkpoint cannot be measured: why."""

LIBRARY = Path(__file__).parents[1]
SCRIPTS = LIBRARY.parent

RECORDED_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "polars",
    "numpy",
    "scipy",
    "sacrebleu",
)

_PREFIX = "sha256-of-file:"
_DIGITS = 2 * hashlib.sha256().digest_size
_ZEROS = b"0" * _DIGITS
_CHUNK = 1 << 20
_PARQUET_MAGIC = b"PAR1"

# In safetensors the provenance is JSON within JSON, whose quotes are escaped.
_SEAL = re.compile(
    rb'%s\\?": \\?"%s([0-9a-f]{%d})' % (SEAL_KEY.encode(), _PREFIX.encode(), _DIGITS)
)
_TRACES = (SEAL_KEY.encode(), _PREFIX.encode())

BLANK_SEAL = {SEAL_KEY: _PREFIX + _ZEROS.decode()}
"""What stands in a file's metadata until `fill_seal` puts the digest there."""

NUMBERS_DIGEST = "numbers_sha256"
"""Beside the seal of a figure: the digest of the CSV file of its numbers."""


@dataclass(frozen=True)
class Provenance:
    """The origin of one artifact.

    It holds nothing that differs between two equal runs (no date, host or duration), so that equal
    computations give equal bytes.
    """

    kind: str
    study: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    code: str
    model: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    layer: int | None = None
    seed: int | None = None
    dtype: str | None = None
    device: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=lambda: library_versions())
    schema_version: int = SCHEMA_VERSION

    @property
    def origin(self) -> dict[str, Any]:
        """The layer that it is of, or the checkpoint: fields that what is made from it shares."""
        return {name: getattr(self, name) for name in ("model", "checkpoint", "revision", "layer")}

    def to_metadata(self) -> dict[str, str]:
        """Return the string-to-string mapping that Parquet and safetensors files can carry."""
        return {METADATA_KEY: json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)}

    @classmethod
    def from_metadata(cls, entries: Mapping[str, str]) -> Provenance:
        """Read back what `to_metadata` wrote; KeyError where a file carries none."""
        content = json.loads(entries[METADATA_KEY])
        content.pop(SEAL_KEY, None)
        provenance = cls(**content)
        tables = (provenance.settings, provenance.inputs, provenance.facts, provenance.libraries)
        if not all(isinstance(table, dict) for table in tables):
            raise TypeError("settings, inputs, facts and libraries are objects")
        return provenance


def provenance_in(entries: Mapping[str, str], path: Path | str) -> Provenance:
    """Read the provenance in a file's metadata; StudyError where it has none of this version."""
    if METADATA_KEY not in entries:
        raise StudyError(f"{path}: carries no provenance; it was not written by Glossogenesis")
    try:
        return Provenance.from_metadata(entries)
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise StudyError(
            f"{path}: its provenance is of another version; delete the file and rerun"
        ) from None


def reason_left_out(provenance: Provenance) -> str | None:
    """Return why an artifact's checkpoint could not be measured; None where it was."""
    reason = provenance.facts.get(LEFT_OUT)
    return None if reason is None else str(reason)


def facts_of_left_out(reasons: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a table that does without what has a reason, and print the reasons."""
    for reason in dict.fromkeys(reasons.values()):
        print(f"Left out: {reason}")
    return {LEFT_OUT: dict(reasons)} if reasons else {}


def diverged(error: NotFiniteError, on_diverged: str, provenance: Provenance) -> Provenance:
    """Return the provenance of an artifact that is empty because of `error`.

    Raises:
        NotFiniteError: the study asks to `stop`.
    """
    if on_diverged == "stop":
        raise error
    print(f"Left out: {error}")
    return replace(provenance, facts={**provenance.facts, LEFT_OUT: str(error)})


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape results, of those installed."""
    versions = {}
    for name in RECORDED_LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def file_digest(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return a digest of JSON-like settings that does not depend on the order of keys."""
    text = json.dumps(settings, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class SealState(Enum):
    """What a file's seal says of it."""

    WHOLE = "its bytes are those that were written"
    DAMAGED = "its bytes are not those that were written"
    NONE = "it carries no seal"


def sealed_metadata(provenance: Provenance) -> dict[str, str]:
    """Return a provenance as metadata that has a place for the seal.

    It is a single entry: safetensors writes several in an order that changes from one process to
    the next.
    """
    return {METADATA_KEY: sealed_json(json.loads(provenance.to_metadata()[METADATA_KEY]))}


def sealed_json(content: dict[str, object]) -> str:
    """Return an object as JSON that has a place for the seal."""
    return json.dumps(content | BLANK_SEAL, ensure_ascii=False, sort_keys=True)


def fill_seal(path: Path, suffix: str) -> None:
    """Put the digest into a file that holds one `BLANK_SEAL`; ValueError where it does not.

    `suffix` is that of the file's name to be, which tells where its metadata is.
    """
    with path.open("r+b") as file:
        found = _seals_in(file, suffix)
        if len(found) != 1:
            raise ValueError(f"{path}: has {len(found)} places for a seal, not one")
        digest = _digest_around(file, found[0])
        file.seek(found[0])
        file.write(digest)


def seal_state(path: Path | str) -> SealState:
    """Compare a file with its seal; files of other programs have none.

    A file that has not changed since is not read again. OSError where it cannot be read.
    """
    status = Path(path).stat()
    return _state_of(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


def check_seal(path: Path | str, what: str) -> None:
    """StudyError where a file's bytes are not those that were written; `what` is its format."""
    if seal_state(path) is SealState.DAMAGED:
        raise StudyError(f"{path}: damaged {what} ({SealState.DAMAGED.value}); delete it and rerun")


@lru_cache(maxsize=4096)
def _state_of(path: str, inode: int, size: int, modified: int) -> SealState:
    with Path(path).open("rb") as file:
        found = _seals_in(file, Path(path).suffix)
        if not found:
            # One damaged place cannot take away both the name of the seal and its beginning.
            return SealState.DAMAGED if _has_traces(file, Path(path).suffix) else SealState.NONE
        file.seek(found[0])
        recorded = file.read(_DIGITS)
        whole = len(found) == 1 and _digest_around(file, found[0]) == recorded
        return SealState.WHOLE if whole else SealState.DAMAGED


def _seals_in(file: IO[bytes], suffix: str) -> list[int]:
    """Return where the digits of seals begin in a file."""
    start, metadata = _metadata(file, suffix)
    return [start + match.start(1) for match in _SEAL.finditer(metadata)]


def _has_traces(file: IO[bytes], suffix: str) -> bool:
    _, metadata = _metadata(file, suffix)
    return any(trace in metadata for trace in _TRACES)


def _metadata(file: IO[bytes], suffix: str) -> tuple[int, bytes]:
    """Return the part of a file in which its metadata stands, and where that begins.

    Of a file whose own account of it is damaged, the part is larger.
    """
    size = file.seek(0, os.SEEK_END)
    start, length = 0, size
    if suffix == ".safetensors":
        file.seek(0)
        length = min(size, 8 + int.from_bytes(file.read(8), "little"))
    elif suffix == ".parquet" and size > 8:
        file.seek(-8, os.SEEK_END)
        footer, magic = int.from_bytes(file.read(4), "little"), file.read(4)
        if magic == _PARQUET_MAGIC and footer <= size - 8:
            start, length = size - 8 - footer, footer
    file.seek(start)
    return start, file.read(length)


def _digest_around(file: IO[bytes], start: int) -> bytes:
    """Return the digits of a file's digest, with zeros for the digits that begin at `start`."""
    digest = hashlib.sha256()
    file.seek(0)
    left = start
    while left and (chunk := file.read(min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    digest.update(_ZEROS)
    file.seek(start + _DIGITS)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest().encode()
