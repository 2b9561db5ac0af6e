"""Digests of the definitions that a script computes with, so that edited code is computed again."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import resolve_name
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from glossogenesis.storage.provenance import LIBRARY, SCHEMA_VERSION, SCRIPTS

NOT_COMPUTING: Mapping[str, str] = {
    "__init__": "the version, which a release alone changes, and how threads wait",
    "exceptions": "shows what stopped a job",
    "hub.errors": "shows what stopped a download, and waits",
    "hub.files.fetch_file": "writes a download and compares its digest",
    "hub.files.forget_others": "records which commits were used",
    "hub.files.keep_revision": "records which commits were used",
    "progress": "shows how far a job is",
    "storage.activations.cache.write_shard": "writes",
    "storage.activations.writer": "writes",
    "storage.files.LEASE_SECONDS": "lets one job at a time make a file",
    "storage.files.RENEWAL_SECONDS": "lets one job at a time make a file",
    "storage.files.SECONDS_TO_GIVE_UP": "lets one job at a time make a file",
    "storage.files.atomic_path": "writes",
    "storage.files.claimed": "lets one job at a time make a file",
    "storage.files.full_disk_in_one_line": "shows that a disk is full",
    "storage.files.is_disk_full": "shows that a disk is full",
    "storage.files.lease": "lets one job at a time make a file",
    "storage.files.named": "lets one job at a time make a file",
    "storage.files.sealed_path": "writes",
    "storage.files.write_json": "writes",
    "storage.provenance": "records what made an artifact, and compares the digest of its bytes",
    "storage.tables.write_csv": "writes",
    "storage.tables.write_table": "writes",
    "storage.tensors.safetensors_parts": "writes",
    "storage.tensors.write_safetensors": "writes",
    "storage.tensors.write_tensors": "writes",
    "workflow.program": "command lines, errors in one line, provenance; one run at a time",
}
"""Rooms, modules and definitions of the library that write, show or record, each with its reason.

Editing them, or what they alone use, recomputes nothing.
"""


class Definition(NamedTuple):
    """A function, class or constant at the top of a module, with all that is in it."""

    module: str
    name: str | None
    """None is the module as a whole."""


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
        self._modules: dict[str, _Module] = {}
        self._parts: dict[Definition, _Part] = {}
        self._loaded: dict[str, set[str]] = {}

    def of(self, script: str) -> str:
        """Return a digest of what a script computes with, for use as a rule's param.

        It covers the syntax of the script and of every definition that it reaches, without comments
        and docstrings, and which definition each name stands for. Where a definition is kept is no
        part of it: moving one, editing prose or touching files changes nothing, editing an
        expression does. What `NOT_COMPUTING` lists is left out.

        A module counts as a whole where it is used as a value (`getattr(module, name)`), where a
        name is looked for in it that it does not define, and where loading it does more than define
        names, such as importing all of another or registering functions by a decorator.
        """
        reached = self._reached(script)
        numbers = {definition: str(number) for number, definition in enumerate(reached)}
        digest = hashlib.sha256(str(SCHEMA_VERSION).encode())
        for definition in reached:
            part = self._part(definition)
            digest.update(part.digest)
            digest.update(" ".join([numbers[other] for other in part.named]).encode())
        return digest.hexdigest()[:16]

    def definitions_of(self, script: str) -> frozenset[Definition]:
        """Return what the digest of a script covers."""
        return frozenset(self._reached(script))

    def _reached(self, script: str) -> list[Definition]:
        """Return what a script reaches, in an order that does not depend on where it is kept."""
        found: dict[Definition, None] = {}
        loaded: set[str] = set()
        new = [Definition(script, None)]
        while new:
            found.update(dict.fromkeys(new))
            for definition in new:
                named = [other for other in self._part(definition).named if other not in found]
                found.update(dict.fromkeys(named))
                new.extend(named)
            acting = self._acting({definition.module for definition in found}, loaded)
            wholes = {Definition(module, None) for module in acting}
            new = sorted(wholes - found.keys(), key=lambda whole: self._part(whole).digest)
        return list(found)

    def _acting(self, modules: set[str], loaded: set[str]) -> Iterator[str]:
        """Yield what acts of the modules that loading some of them loads, but for those of before.

        Those of before are in `loaded`, to which they are added.
        """
        waiting = modules - loaded
        while waiting:
            name = waiting.pop()
            loaded.add(name)
            if self._module(name).acts:
                yield name
            waiting |= self._loaded_by(name) - loaded

    def _loaded_by(self, name: str) -> set[str]:
        """Return the modules of the library that a module imports, and the room it is in."""
        if name not in self._loaded:
            imported = self._module(name).imported.values()
            found = {self._split(target)[0] for targets in imported for target in targets}
            found |= {name.rpartition(".")[0]}
            self._loaded[name] = {each for each in found if each and not _is_left_out(each)}
        return self._loaded[name]

    def _part(self, definition: Definition) -> _Part:
        if definition not in self._parts:
            self._parts[definition] = self._resolved(definition)
        return self._parts[definition]

    def _resolved(self, definition: Definition) -> _Part:
        """Find what the names in a definition stand for."""
        module = self._module(definition.module)
        numbers: dict[Definition, int] = {}
        digest = hashlib.sha256()
        name = definition.name
        for statement in module.statements if name is None else module.definitions[name]:
            digest.update(statement.digest)
            meanings: dict[str, str] = {}
            for used in statement.names:
                if used not in meanings:
                    meanings[used] = self._in_numbers(statement, used, module, numbers)
            digest.update("\n".join([meanings[used] for used in statement.names]).encode())
        return _Part(digest.digest(), tuple(numbers))

    def _in_numbers(
        self, statement: _Statement, name: str, module: _Module, numbers: dict[Definition, int]
    ) -> str:
        """Return what a name stands for: definitions by their numbers, which are added to."""
        head, dot, rest = name.partition(".")
        targets = statement.imported.get(head, set()) | module.imported.get(head, set())
        if head in module.definitions:
            targets = targets | {f"{module.name}.{head}"}
        words = []
        for target in sorted(targets):
            found, after = self._meaning(target + dot + rest)
            number = numbers.setdefault(found, len(numbers)) if found else ""
            words.append(f"{number}:{after}")
        return " ".join(words) or name

    def _meaning(self, name: str) -> tuple[Definition | None, str]:
        """Return the definition that a full name leads to, if any counts, and what follows."""
        module, rest = self._split(name)
        head, _, after = rest.partition(".")
        if not module or _is_left_out(module) or _is_left_out(f"{module}.{head}"):
            return None, rest
        if not head:
            return Definition(module, None), ""
        if head in self._module(module).definitions:
            return Definition(module, head), after
        targets = self._module(module).imported.get(head, set())
        if len(targets) == 1:
            return self._meaning(".".join([*targets, *filter(None, [after])]))
        return Definition(module, None), rest

    def _split(self, name: str) -> tuple[str, str]:
        """Divide a full name after the module of the library that it begins with, if any."""
        module = name if name.partition(".")[0] == LIBRARY.name else ""
        while module and module not in self._library:
            module = module.rpartition(".")[0]
        return module, name[len(module) :].removeprefix(".")

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            file = self._library.get(name, self._scripts / f"{name}.py")
            package = name if file.stem == "__init__" else name.rpartition(".")[0]
            self._modules[name] = _Module(name, package, file.read_text(encoding="utf-8"))
        return self._modules[name]

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


def _is_left_out(name: str) -> bool:
    """Return whether a room, module or definition of the library, or one it is in, is listed."""
    parts = name.split(".")[1:] or ["__init__"]
    return any(".".join(parts[:end]) in NOT_COMPUTING for end in range(1, len(parts) + 1))


@dataclass(frozen=True)
class _Part:
    """What a digest needs of a definition."""

    digest: bytes
    """Of its syntax, in which definitions of the library are numbers."""
    named: tuple[Definition, ...]
    """What the numbers stand for."""


class _Module:
    """A file of code."""

    def __init__(self, name: str, package: str, code: str) -> None:
        """Read the code of a module, which lies in a package."""
        self.name = name
        self.imported: dict[str, set[str]] = {}
        """What names stand for that it imports, in full."""
        self.definitions: dict[str, list[_Statement]] = {}
        """The statements that define a name."""
        self.acts = False
        """Whether loading it does more than define names; then it counts as a whole."""
        self.statements: list[_Statement] = []
        decorators: list[str] = []
        for node in ast.parse(code).body:
            statement = _Statement(node, package)
            self.statements.append(statement)
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.acts |= node.names[0].name == "*"
                for each, targets in statement.imported.items():
                    self.imported.setdefault(each, set()).update(targets)
            elif names := _defined(node):
                for each in names:
                    self.definitions.setdefault(each, []).append(statement)
                for decorator in getattr(node, "decorator_list", []):
                    decorators += _Statement(decorator, package).names
            else:
                self.acts |= not _never_runs(node)
        for head in (decorator.partition(".")[0] for decorator in decorators):
            # One of the library's own may keep what it is given.
            targets = self.imported.get(head, set())
            own = any(target.partition(".")[0] == LIBRARY.name for target in targets)
            self.acts |= own or head in self.definitions


class _Statement:
    """A statement at the top of a module, without prose, and the names in it."""

    def __init__(self, node: ast.AST, package: str) -> None:
        """Read a piece of syntax, of a module in a package."""
        self.names: list[str] = []
        """With their attributes, in the order of the code."""
        self.imported: dict[str, set[str]] = {}
        """What names stand for that are imported in the statement itself, in full."""
        self._package = package
        words: list[str] = []
        self._read(node, words)
        self.digest = hashlib.sha256("\n".join(words).encode()).digest() if words else b""
        """Of its syntax, without the names: those of what it uses are found elsewhere."""

    def _read(self, node: ast.AST, words: list[str], *, quoted: bool = False) -> None:
        """Add what syntax says to `words`; `quoted` where texts are code: in an annotation."""
        kind = type(node)
        if (kind is ast.Name or kind is ast.Attribute) and (name := _dotted(node)):
            self.names.append(name)
            words.append(".")
        elif isinstance(node, ast.Constant):
            words.append(f"={node.value!r}")
            if isinstance(node.value, str):
                self._look_into(node.value, quoted=quoted)
        elif not (isinstance(node, ast.stmt) and self._says_nothing(node)):
            words.append(f"{kind.__name__}(")
            for field in node._fields:
                value = getattr(node, field)
                if value is None or value == [] or field == "ctx":
                    continue
                words.append(field)
                if isinstance(value, ast.AST):
                    self._read(value, words, quoted=quoted or field in _ANNOTATIONS)
                elif isinstance(value, list):
                    for item in value:
                        if isinstance(item, ast.AST):
                            self._read(item, words, quoted=quoted)
                        else:
                            words.append(repr(item))
                else:
                    words.append(repr(value))
            words.append(")")

    def _says_nothing(self, node: ast.stmt) -> bool:
        """Return whether a statement computes nothing; note what it imports."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
            return True
        return isinstance(node, ast.Pass) or _never_runs(node)

    def _look_into(self, text: str, *, quoted: bool) -> None:
        """Look for the name of a module in a text, and for names in a quoted annotation."""
        if text.startswith(f"{LIBRARY.name}."):
            self._note_module(text)
        if quoted:
            with suppress(SyntaxError):
                found = map(_dotted, ast.walk(ast.parse(text, mode="eval")))
                self.names.extend(name for name in found if name)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Note what the names stand for that are imported."""
        source = ""
        if isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), self._package)
        for alias in node.names:
            if alias.name == "*":
                self._note_module(source)
            elif source:
                self._note(alias.asname or alias.name, f"{source}.{alias.name}")
            elif alias.asname:
                self._note(alias.asname, alias.name)
            else:
                self._note_module(alias.name)

    def _note(self, name: str, target: str) -> None:
        self.imported.setdefault(name, set()).add(target)

    def _note_module(self, name: str) -> None:
        """Note a module that is imported by its whole name: as such it counts as a whole."""
        head = name.partition(".")[0]
        self._note(head, head)
        self._note(name, name)
        self.names.append(name)


_ANNOTATIONS = {"annotation", "returns"}


def _dotted(node: ast.AST) -> str:
    """Return a name with its attributes, as it is written; nothing for other syntax."""
    attributes = ""
    while isinstance(node, ast.Attribute):
        attributes = f".{node.attr}{attributes}"
        node = node.value
    return node.id + attributes if isinstance(node, ast.Name) else ""


def _defined(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines, where it does nothing else.

    A call whose result is kept is taken to do nothing else.
    """
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    parts = [getattr(target, "elts", [target]) for target in targets]
    names = [_dotted(part) for part in chain.from_iterable(parts)]
    return [] if any("." in name or not name for name in names) else names


def _never_runs(node: ast.stmt) -> bool:
    """Return whether a statement is prose (a bare string), or for type checkers alone."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If):
        return _dotted(node.test).endswith("TYPE_CHECKING") and not node.orelse
    return False
