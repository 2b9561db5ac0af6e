"""Seconds and memory that planning takes, by the size of the checkpoint sheet.

The shipped study inaba2025 is planned (`snakemake --dry-run`) with sheets of some numbers of setups
(model, checkpoint, layer):

  fresh      nothing is there yet
  finished   all outputs and Snakemake's records of them are there; the files are stand-ins of a few
             bytes, the records are written by Snakemake itself
  added      finished, and one checkpoint more in the sheet: its own jobs and the aggregates are
             planned, which is checked by their numbers, stage by stage
  job        one job as an executor starts it on a node: Snakemake reads the workflow and the sheet
             once more, and a program that does nothing stands for the job's

Seconds are of a clock; CPU seconds of user and system; memory is the peak of the process.

    python benchmarks/dag.py --json results/dag.json
    python benchmarks/dag.py --setups 100
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from dag_grid import (
    CHECKPOINTS,
    Grid,
    Run,
    by_stage,
    expected_after_adding,
    expected_jobs,
    make_grid,
)

MODEL = "llm-jp-3-150m"
"""The model that a checkpoint is added to, and whose job is started."""


@dataclass(frozen=True)
class Row:
    """One state of one size."""

    setups: int
    state: str
    jobs: dict[str, int]
    """That were planned, by stage."""
    seconds: float
    cpu_seconds: float
    megabytes: float


def main() -> None:
    """Measure every size, print the table, write the JSON."""
    arguments = parse_arguments()
    rows: list[Row] = []
    console = Console(width=120)
    for setups in arguments.setups:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            grid = make_grid(Path(name) / "tree", CHECKPOINTS[setups])
            rows += measure(grid, setups, arguments.repeats, console)
    console.print(table_of(rows))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--setups", type=int, nargs="+", default=[*CHECKPOINTS], choices=[*CHECKPOINTS]
    )
    parser.add_argument("--repeats", type=int, default=1, help="the quickest run of so many counts")
    parser.add_argument("--folder", type=Path, help="where trees are made; default: temporary")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    return parser.parse_args()


def measure(grid: Grid, setups: int, repeats: int, console: Console) -> list[Row]:
    """Plan one grid in all its states; RuntimeError where other jobs are planned than expected."""
    checkpoints = CHECKPOINTS[setups]
    # Compiles the modules of the copy, which an installed workflow has done.
    grid.plan("--quiet", "all")
    fresh = quickest(grid, repeats)
    check(fresh, expected_jobs(checkpoints), f"{setups} setups, fresh")
    made = grid.finish()
    console.print(f"{setups:,} setups: finished by stand-ins in {made.seconds:.0f} s")
    finished = quickest(grid, repeats)
    check(finished, Counter(), f"{setups} setups, finished")
    job = min(
        (
            grid.start_job("measure_quality", model=MODEL, checkpoint="step0000", sae="topk")
            for _ in range(max(2, repeats))
        ),
        key=lambda run: run.cpu_seconds,
    )
    grid.add_checkpoint(MODEL)
    added = quickest(grid, repeats)
    expected = expected_after_adding(MODEL, checkpoints)
    check(added, expected, f"{setups} setups, one checkpoint added")
    runs = {"fresh": fresh, "finished": finished, "added": added, "job": job}
    return [
        Row(
            setups,
            state,
            dict(by_stage(run.jobs)) if state != "job" else {"measure_quality": 1},
            run.seconds,
            run.cpu_seconds,
            run.megabytes,
        )
        for state, run in runs.items()
    ]


def quickest(grid: Grid, repeats: int) -> Run:
    """Return the dry run that took the least CPU time."""
    return min((grid.plan() for _ in range(repeats)), key=lambda run: run.cpu_seconds)


def check(run: Run, expected: Counter[str], what: str) -> None:
    """RuntimeError where a dry run plans other jobs than expected."""
    planned = by_stage(run.jobs)
    if planned != expected:
        more, fewer = planned - expected, expected - planned
        raise RuntimeError(f"{what}: planned {dict(more)} too many, {dict(fewer)} too few")


def table_of(rows: list[Row]) -> Table:
    """The measurements as a table."""
    table = Table(box=box.SIMPLE, title=f"Planning inaba2025, Snakemake {machine()['snakemake']}")
    headings = ("setups", "state", "jobs planned", "seconds", "CPU seconds", "peak MB")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for row in rows:
        numbers = (f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}", f"{row.megabytes:.0f}")
        table.add_row(f"{row.setups:,}", row.state, f"{sum(row.jobs.values()):,}", *numbers)
    return table


def machine() -> dict[str, str]:
    """What the measurements depend on."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "snakemake": version("snakemake"),
    }


if __name__ == "__main__":
    main()
