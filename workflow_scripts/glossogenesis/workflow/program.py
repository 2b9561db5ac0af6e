"""What the workflow's command-line programs share: arguments, errors and provenance."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.storage.full_disk import full_disk_in_one_line
from glossogenesis.storage.leases import claimed
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.workflow.code_digests import code_digest

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""What libraries read when they are loaded, or when they start their threads."""


def program_arguments(
    description: str | None, **arguments: Mapping[str, Any]
) -> argparse.Namespace:
    """Parse a program's command line.

    Every program takes `--settings`, its slice of the study as JSON, `--study`, the study's name,
    and `--threads`, which is how many it then computes with; `arguments` adds options by their
    names (underscores become dashes) with the keywords of `ArgumentParser.add_argument`. Options
    are required unless they have a default.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON of the stage")
    parser.add_argument("--study", required=True, help="name of the study, recorded in artifacts")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    for name, keywords in arguments.items():
        options = {"required": "default" not in keywords, "type": Path, **keywords}
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    parsed = parser.parse_args()
    _use_threads(parsed.threads)
    return parsed


def _use_threads(number: int) -> None:
    """Let PyTorch, and what is loaded after, compute with so many threads."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(number)))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(number)


def run_program(main: Callable[[], None]) -> None:
    """Run a program's main function; print a `StudyError` as one line and exit with status 1.

    Where the job of a killed run is still making the same `--output`, the program waits for it.
    """
    try:
        with full_disk_in_one_line(Path(sys.argv[0]).stem), _output_claimed(sys.argv):
            main()
    except StudyError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _output_claimed(command: Sequence[str]) -> AbstractContextManager[None]:
    """Claim what one job alone makes: its unfinished state, or else what its program writes.

    Jobs that run at once may write into one folder, each other files: blocks of layers, tables.
    """
    for option in ("--resume-dir", "--output"):
        if option in command[:-1]:
            path = Path(command[command.index(option) + 1])
            return claimed(path.with_name(f"{path.name}.{Path(command[0]).stem}"))
    return nullcontext()


def provenance_of(
    arguments: argparse.Namespace, kind: str, inputs: Mapping[str, Path], **facts: Any
) -> Provenance:
    """Return the provenance of an artifact that a program writes.

    `kind` is the artifact's and `inputs` names the files it was made from; `facts` are further
    fields of `Provenance`, such as the model.
    """
    return Provenance(
        kind=kind,
        study=arguments.study,
        settings=arguments.settings,
        inputs={name: file_digest(path) for name, path in inputs.items()},
        code=code_digest(Path(sys.argv[0]).stem),
        **facts,
    )
