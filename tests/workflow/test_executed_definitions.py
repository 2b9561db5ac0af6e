"""That digests of code cover what programs execute, as small studies show, and no more."""

from __future__ import annotations

import ast
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.workflow.code_digests import NOT_COMPUTING, CodeDigests
from support.executed_definitions import RECORDS, Call, recorded_calls
from support.working_tree import WorkingTree, copy_of_repository

pytestmark = pytest.mark.slow

PROGRAMS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
WITHOUT_RECORD = {"remove_download"}
"""It needs a checkpoint of the Hub."""
DRAWN_OF_A_ROOM = 4


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[Call]]:
    """What every program executed in the small studies of all three parts."""
    folder = tmp_path_factory.mktemp("executed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RECORDS, str(folder / "records"))
        tree = copy_of_repository(folder / "tree")
        for study in ("small.yaml", "features.yaml", "robustness.yaml"):
            tree = WorkingTree(folder / "tree", study)
            tree.snakemake("--cores", "2", "--show-failed-logs")
            shutil.move(tree.root / "results", folder / study)
        tree = WorkingTree(tree.root, "features.yaml")
        shutil.move(folder / "features.yaml", tree.root / "results")
        tree.edit("features.yaml", "{window: 1024}", "{window: 1024, mode: stream}")
        shutil.rmtree(tree.root / "results" / "sae" / "tiny" / "last")
        target = "results/sae/tiny/last/layer_1/topk/sae_weights.safetensors"
        tree.snakemake("--cores", "1", "--rerun-triggers", "mtime", "--", target)
    return recorded_calls(folder / "records", SCRIPTS)


@dataclass(frozen=True)
class Covered:
    """What the digest of a program covers."""

    definitions: frozenset[str]
    modules: frozenset[str]
    """Those that count as a whole, such as the program itself."""

    def has(self, name: str) -> bool:
        return bool({name, name.rpartition(".")[0]} & self.modules) or name in self.definitions


def covered_by(digests: CodeDigests, program: str) -> Covered:
    reached = digests.definitions_of(program)
    return Covered(
        frozenset(f"{each.module}.{each.name}" for each in reached if each.name),
        frozenset(each.module for each in reached if each.name is None),
    )


def is_left_out(name: str) -> bool:
    """Whether a definition is listed, or what it lies in is."""
    within = name.removeprefix("glossogenesis.") + "."
    return any(within.startswith(f"{listed}.") for listed in NOT_COMPUTING)


def test_the_studies_execute_every_program(executed: dict[str, set[Call]]) -> None:
    assert sorted({*executed, *WITHOUT_RECORD}) == PROGRAMS


def test_what_covered_code_calls_is_covered_or_left_out(executed: dict[str, set[Call]]) -> None:
    """So is all that is executed: it begins with the program, and goes on in what is covered."""
    digests = CodeDigests()
    missing = set()
    for program, calls in executed.items():
        covered = covered_by(digests, program)
        for caller, called in calls:
            counts = caller is None or covered.has(caller)
            if counts and not covered.has(called) and not is_left_out(called):
                missing.add(f"{program}: {caller} calls {called}")
    assert not missing


def test_a_changed_definition_changes_the_programs_that_reach_it_and_no_other(
    executed: dict[str, set[Call]], tmp_path: Path
) -> None:
    """Those that executed it, and none that does not import its module by any way."""
    copied = Path(shutil.copytree(SCRIPTS, tmp_path / "scripts"))
    digests = CodeDigests()
    before = {program: digests.of(program) for program in PROGRAMS}
    covered = {program: covered_by(digests, program) for program in PROGRAMS}
    imported = {program: modules_imported_by(program) for program in PROGRAMS}
    drawn = list(drawn_definitions())
    assert len(drawn) >= 30
    for module, name, file, changed_code in drawn:
        path = copied / file
        original = path.read_text(encoding="utf-8")
        path.write_text(changed_code, encoding="utf-8")
        edited = CodeDigests(copied)
        changed = {program for program in PROGRAMS if edited.of(program) != before[program]}
        path.write_text(original, encoding="utf-8")
        called = f"{module}.{name}"
        execute = {
            program
            for program, calls in executed.items()
            for call in calls
            if call.called == called and covered[program].has(call.caller or program)
        }
        if is_left_out(called):
            execute = set()
        assert execute <= changed, called
        assert changed <= {program for program in PROGRAMS if module in imported[program]}, called
        assert changed == {program for program in PROGRAMS if covered[program].has(called)}, called


def modules_imported_by(program: str) -> set[str]:
    """Return the modules of the library that a program imports by any way, also in functions."""
    found: set[str] = set()
    waiting = {SCRIPTS / f"{program}.py"}
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            elif isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            for name in names:
                place = SCRIPTS.joinpath(*name.split("."))
                for file in (place.with_suffix(".py"), place / "__init__.py"):
                    if file.is_file() and name not in found:
                        found.add(name)
                        waiting.add(file)
    return found


def drawn_definitions() -> Iterator[tuple[str, str, Path, str]]:
    """Yield some definitions of every room: module, name, file, and its code with one changed."""
    rooms = defaultdict(list)
    for path in sorted(SCRIPTS.glob("glossogenesis/**/*.py")):
        file = path.relative_to(SCRIPTS)
        room = file.parts[1] if len(file.parts) > 2 else "top"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                rooms[room].append((file, node))
    draw = random.Random(0)
    for room in sorted(rooms):
        draw.shuffle(rooms[room])
        changed = ((file, node, with_a_change(file, node)) for file, node in rooms[room])
        usable = [(file, node, code) for file, node, code in changed if code is not None]
        for file, node, code in usable[:DRAWN_OF_A_ROOM]:
            module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
            yield module, node.name, file, code


def with_a_change(file: Path, definition: ast.stmt) -> str | None:
    """Return a file's code with another number or text in a definition; None where it has none."""
    lines = (SCRIPTS / file).read_bytes().splitlines(keepends=True)
    prose = {id(node.value) for node in ast.walk(definition) if isinstance(node, ast.Expr)}
    for node in ast.walk(definition):
        if not isinstance(node, ast.Constant) or id(node) in prose or "\n" in str(node.value):
            continue
        line = lines[node.lineno - 1]
        start, end = node.col_offset, node.end_col_offset
        changed = line[:start] + b"(" + line[start:end] + b", 1)" + line[end:]
        code = b"".join([*lines[: node.lineno - 1], changed, *lines[node.lineno :]]).decode()
        try:
            ast.parse(code)
        except SyntaxError:
            continue
        return code
    return None
