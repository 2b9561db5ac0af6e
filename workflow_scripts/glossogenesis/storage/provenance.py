"""What made an artifact: settings used, digests of inputs and code, versions, seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from glossogenesis.errors import NotFiniteError, StudyError

SCHEMA_VERSION = 1
"""Raised when the format of an artifact changes; part of every code digest."""

METADATA_KEY = "glossogenesis"

SEAL_KEY = "file_seal"
"""Beside the provenance in a file's metadata: the digest of the file; see `storage.seals`."""

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
