"""What the command-line programs share: arguments, errors, provenance, and one run at a time."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import (
    SECONDS_TO_GIVE_UP,
    claimed,
    full_disk_in_one_line,
    lease,
    named,
)
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.workflow.code_digests import code_digest

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""What libraries read when they are loaded, or when they start their threads."""

LOCK_FILE = "driver.lock"
"""In a folder of results while a run writes there; names the run's process."""


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


def claim_results(results: Path) -> SoftFileLease:
    """Take a folder of results for this process, until it ends or releases what is returned.

    StudyError where another process has it, or nothing can be written there.
    """
    lock = lease(results / LOCK_FILE)
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=SECONDS_TO_GIVE_UP)
    except Timeout:
        raise StudyError(
            f"{results}: {named(lock.owner)} is running a study here; wait until it ends, or stop "
            f"it. If it was killed, delete {results / LOCK_FILE}"
        ) from None
    except OSError as error:
        raise StudyError(
            f"{results}: cannot be written ({error.strerror}); get leave to write there, or set "
            "`pathvars.results`"
        ) from None
    return lock


def running_in(results: Path) -> str | None:
    """Return which process is running a study in a folder of results, None where none is."""
    lock = lease(results / LOCK_FILE)
    if lock.owner is None:
        return None
    try:
        with lock.acquire(timeout=SECONDS_TO_GIVE_UP):
            return None
    except Timeout:
        return named(lock.owner)
    except OSError:
        return None


def remove_stale_locks(results: Path, locks: Path) -> int:
    """Remove Snakemake's locks of a killed run, so that it can be started again; return how many.

    `locks` is Snakemake's folder of them: pairs `{number}.input.lock` and `{number}.output.lock`
    that list files. Those are removed that list outputs in `results`, unless a run holds this
    folder, or another machine's has not released it.
    """
    if running_in(results) is not None:
        return 0
    found = [path for path in locks.glob("*.output.lock") if _lists(path, results)]
    for path in found:
        path.unlink(missing_ok=True)
        path.with_name(path.name.replace(".output.", ".input.")).unlink(missing_ok=True)
    return len(found)


def _lists(lock: Path, results: Path) -> bool:
    folder = results.absolute()
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(Path(line).absolute().is_relative_to(folder) for line in lines)
