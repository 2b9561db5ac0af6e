"""Records which definitions of the library programs execute, and what calls each of them."""

from __future__ import annotations

import ast
import atexit
import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

RECORDS = "EXECUTED_DEFINITIONS"
"""Environment variable: the folder of records, one file for each process."""

LOADING = "<module>"
"""What Python calls the code that a module runs when it is loaded."""

Place = tuple[str, int]
"""A file of code, and the line where a function in it begins; 0: it is loaded."""


class Call(NamedTuple):
    """That a definition was executed, and the nearest one that led there, if any."""

    caller: str | None
    called: str


def record_if_asked(program: Path) -> None:
    """Record what this process executes of a script and of the library beside it, if asked to."""
    if RECORDS not in os.environ:
        return
    scripts = f"{program.parent}{os.sep}"
    calls: set[tuple[CodeType | None, CodeType]] = set()
    own = cache(lambda code: code.co_filename.startswith(scripts))

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or frame.f_code.co_name == LOADING or not own(frame.f_code):
            return
        caller = frame.f_back
        while caller is not None and not own(caller.f_code):
            caller = caller.f_back
        calls.add((caller and caller.f_code, frame.f_code))

    def write() -> None:
        sys.setprofile(None)
        places = [[_place(caller, scripts), _place(called, scripts)] for caller, called in calls]
        folder = Path(os.environ[RECORDS]) / program.stem
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{os.getpid()}.json").write_text(json.dumps(places), encoding="utf-8")

    atexit.register(write)
    threading.setprofile(watch)
    sys.setprofile(watch)


def _place(code: CodeType | None, scripts: str) -> Place | None:
    if code is None:
        return None
    line = 0 if code.co_name == LOADING else code.co_firstlineno
    return code.co_filename.removeprefix(scripts), line


def recorded_calls(folder: Path, scripts: Path) -> dict[str, set[Call]]:
    """Return the calls of every program that was recorded, of whole definitions.

    Definitions are `module.name`, and modules as such are `module`: code outside its definitions.
    """
    name_of = _names(scripts)
    calls = defaultdict(set)
    for file in folder.glob("*/*.json"):
        for caller, called in json.loads(file.read_text(encoding="utf-8")):
            calls[file.parent.name].add(Call(caller and name_of(*caller), name_of(*called)))
    return dict(calls)


def _names(scripts: Path) -> Callable[[str, int], str]:
    """Return a function that names what is at a line of a file."""

    @cache
    def names_in(file: str) -> dict[int, str]:
        parts = Path(file).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        names = {}
        for node in ast.parse((scripts / file).read_text(encoding="utf-8")).body:
            targets = getattr(node, "targets", [getattr(node, "target", node)])
            name = getattr(targets[0], "id", getattr(node, "name", None))
            first = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno)
            for line in range(first.lineno, node.end_lineno + 1 if node.end_lineno else 0):
                names[line] = f"{module}.{name}" if name else module
        return names | {0: module}

    return lambda file, line: names_in(file).get(line, names_in(file)[0])
