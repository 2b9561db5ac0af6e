"""Programs run in the test's own process, with a command line as the workflow gives it."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
import torch

from glossogenesis.storage.provenance import SCRIPTS

ON_CPU = {"device": "cpu", "threads": torch.get_num_threads()}
"""Options of programs that compute."""


def run_main(
    program: ModuleType, settings: Any, *, study: str | None = "test", **options: Any
) -> None:
    """Run a program's `main` with settings and options, such as `batch_size=4` or a list of paths.

    `study` is None for programs that are not reported its name, as those that draw figures.
    """
    named = {} if study is None else {"study": study}
    given = {"settings": json.dumps(settings), **named, **options}
    words = []
    for name, value in given.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(SCRIPTS / f"{program.__name__}.py"), *words])
        program.main()
