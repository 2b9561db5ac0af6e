"""Digests of the code that a script computes with, so that edited code is computed again."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from glossogenesis.provenance import LIBRARY, SCHEMA_VERSION, SCRIPTS

NOT_COMPUTING = (
    "cli",
    "code_digests",
    "config.feature_checks",
    "config.feature_settings",
    "config.frozen",
    "config.limits",
    "config.messages",
    "config.overrides",
    "config.robustness_checks",
    "config.robustness_settings",
    "config.schema",
    "config.section",
    "config.source_pairs",
    "config.stage_settings",
    "config.study",
    "config.study_checks",
    "errors",
    "program",
    "progress",
    "provenance",
    "run_lock",
    "storage",
)
"""Rooms, and modules of `config`, that must not change what is computed, so that editing them
recomputes nothing: those of `config` load and check a study, or make the settings that are a rule's
own params. Its classes of settings compute, and count."""


def code_digest(script: str, scripts: Path = SCRIPTS) -> str:
    """Return the digest of one script; see `CodeDigests.of`."""
    return CodeDigests(scripts).of(script)


class CodeDigests:
    """Digests of the scripts of a folder.

    Every file is read once and kept, so another object is needed where a file has been edited.
    """

    def __init__(self, scripts: Path = SCRIPTS) -> None:
        """Look at a folder of scripts with the library beside them."""
        self._scripts = scripts
        self._modules: dict[Path, _Module] = {}

    def of(self, script: str) -> str:
        """Return a digest of what a script computes with, for use as a rule's param.

        It covers the script and the library modules that it imports, transitively, as syntax trees
        without comments and docstrings: editing prose or touching files changes nothing, editing an
        expression does. Rooms named in `NOT_COMPUTING` are left out.
        """
        digest = hashlib.sha256(str(SCHEMA_VERSION).encode())
        for path in sorted(self._reachable(self._scripts / f"{script}.py")):
            digest.update(path.relative_to(self._scripts).as_posix().encode())
            digest.update(self._module(path).code_without_prose)
        return digest.hexdigest()[:16]

    def _reachable(self, script: Path) -> set[Path]:
        """Return the script and every computing library module that its imports lead to."""
        found: set[Path] = set()
        waiting = {script}
        while waiting:
            path = waiting.pop()
            found.add(path)
            waiting |= self._module(path).imported - found
        return found

    def _module(self, path: Path) -> _Module:
        if path not in self._modules:
            names, code = _parsed(path.read_text(encoding="utf-8"))
            imported = frozenset(file for name in names for file in self._files_of(name))
            self._modules[path] = _Module(imported, code.encode())
        return self._modules[path]

    @cached_property
    def _library(self) -> dict[str, Path]:
        """Files of the library by the names that modules and rooms are imported by.

        Folders are listed, which asks a file system far less than looking for every imported name.
        """
        files = {}
        for folder, _, names in os.walk(self._scripts / LIBRARY.name):
            package = ".".join(Path(folder).relative_to(self._scripts).parts)
            for file in (Path(folder, name) for name in names):
                if file.suffix == ".py":
                    files[package if file.stem == "__init__" else f"{package}.{file.stem}"] = file
        return files

    def _files_of(self, module: str) -> Iterator[Path]:
        """Yield the file of a library module and of the rooms that it lies in.

        The library's own `__init__.py` is left out: it holds the version, and a release alone must
        not recompute anything.
        """
        parts = module.split(".")
        rooms = (parts[1:2], parts[1:3])
        if parts[0] != LIBRARY.name or any(".".join(room) in NOT_COMPUTING for room in rooms):
            return
        for end in range(2, len(parts) + 1):
            path = self._library.get(".".join(parts[:end]))
            if path is not None:
                yield path


@dataclass(frozen=True)
class _Module:
    """What a digest needs of some code."""

    imported: frozenset[Path]
    """Files of the library that it imports, or imports names from."""
    code_without_prose: bytes
    """The code with comments and docstrings removed and formatting normalised."""


def _parsed(code: str) -> tuple[list[str], str]:
    """Return the names of imported modules, and the code without prose."""
    tree = ast.parse(code)
    imports: list[str] = []
    for statement in _statements(tree):
        if isinstance(statement, ast.Import):
            imports.extend(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and statement.level == 0:
            imports.append(statement.module)
            imports.extend(f"{statement.module}.{alias.name}" for alias in statement.names)
    return imports, ast.unparse(tree)


def _statements(block: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements in a block, at any depth, and remove its prose."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(block, name, None)
        if not isinstance(inner, list):
            continue
        if name == "body":
            inner[:] = [item for item in inner if not _is_prose(item)] or [ast.Pass()]
        for statement in inner:
            yield statement
            yield from _statements(statement)


def _is_prose(node: ast.AST) -> bool:
    """Tell whether a statement is a bare string: a docstring, or one that documents a constant."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
