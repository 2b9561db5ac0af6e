"""What made an artifact: settings used, digests of inputs and code, versions, seed."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError

SCHEMA_VERSION = 1
"""Raised when the format of an artifact changes; part of every code digest."""

METADATA_KEY = "glossogenesis"

SEAL_KEY = "file_seal"
"""Beside the provenance in a file's metadata: the digest of the file; see `storage.seals`."""

LIBRARY = Path(__file__).parent
SCRIPTS = LIBRARY.parent

NOT_COMPUTING = (
    "cli",
    "config",
    "errors",
    "program",
    "progress",
    "provenance",
    "run_lock",
    "storage",
)
"""Rooms that must not change what is computed, so that editing them recomputes nothing."""

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


def code_digest(script: str, scripts: Path = SCRIPTS) -> str:
    """Return a digest of what a script computes with, for use as a rule's param.

    It covers the script in the folder `scripts` and the library modules beside it that it imports,
    transitively, as syntax trees without comments and docstrings: editing prose or touching files
    changes nothing, editing an expression does. Rooms named in `NOT_COMPUTING` are left out.
    """
    digest = hashlib.sha256(str(SCHEMA_VERSION).encode())
    modules = _reachable(scripts / f"{script}.py", scripts)
    for path in sorted(modules):
        digest.update(path.relative_to(scripts).as_posix().encode())
        digest.update(modules[path].code_without_prose.encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Module:
    """What a digest needs of some code."""

    imports: tuple[str, ...]
    """Names of modules that it imports, or may import names from."""
    code_without_prose: str
    """The code with comments and docstrings removed and formatting normalised."""


def _reachable(script: Path, scripts: Path) -> dict[Path, _Module]:
    """Return the script and every computing library module that its imports lead to."""
    library = _library_files(scripts)
    found: dict[Path, _Module] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = _parsed(path.read_text(encoding="utf-8"))
            for module in found[path].imports:
                waiting.extend(_files_of(module, library))
    return found


def _library_files(scripts: Path) -> dict[str, Path]:
    """Return the files of the library by the names that modules and rooms are imported by.

    Folders are listed, which asks a file system far less than looking for every imported name.
    """
    files = {}
    for folder, _, names in os.walk(scripts / LIBRARY.name):
        package = ".".join(Path(folder).relative_to(scripts).parts)
        for file in (Path(folder, name) for name in names):
            if file.suffix == ".py":
                files[package if file.stem == "__init__" else f"{package}.{file.stem}"] = file
    return files


def _files_of(module: str, library: Mapping[str, Path]) -> Iterator[Path]:
    """Yield the file of a library module and of the rooms that it lies in.

    The library's own `__init__.py` is left out: it holds the version, and a release alone must not
    recompute anything.
    """
    parts = module.split(".")
    if parts[0] != LIBRARY.name or (len(parts) > 1 and parts[1] in NOT_COMPUTING):
        return
    for end in range(2, len(parts) + 1):
        path = library.get(".".join(parts[:end]))
        if path is not None:
            yield path


@cache
def _parsed(code: str) -> _Module:
    """Parse some code, once for its imports and for its text."""
    tree = ast.parse(code)
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports.append(node.module)
            imports.extend(f"{node.module}.{alias.name}" for alias in node.names)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [item for item in body if not _is_prose(item)] or [ast.Pass()]  # type: ignore[attr-defined]  # ast.AST declares no body
    return _Module(tuple(imports), ast.unparse(tree))


def _is_prose(node: ast.AST) -> bool:
    """Tell whether a statement is a bare string: a docstring, or one that documents a constant."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
