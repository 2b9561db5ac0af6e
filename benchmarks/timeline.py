"""Which job of a finished run ran when: a timeline of the cores, and what each rule took.

Run it in the folder where Snakemake ran. Times are those of Snakemake's own records of outputs;
CPU seconds are those of the benchmark file of each job, which lies where its log does. Jobs that
ran at once are drawn on different cores, a job with several threads on one.

    python benchmarks/timeline.py --output timeline.svg
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.patches import Patch
from rich import box
from rich.console import Console
from rich.table import Table

from glossogenesis.figures.style import FAINT, INK, PAGE_WIDTH, look_of, new_figure, paper_style

NUMBER = re.compile(r"_[0-9]+$")
NAMED = 11
"""Rules with a colour of their own; the others, which took the least time, share one."""


@dataclass(frozen=True)
class RecordedJob:
    """One job as it ran, in seconds since the first one started."""

    rule: str
    start: float
    end: float
    cpu: float

    @property
    def wall(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start


def main() -> None:
    """Draw the timeline and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="where Snakemake ran")
    parser.add_argument("--logs", default="logs", help="`pathvars.logs` of the study")
    parser.add_argument("--benchmarks", default="benchmarks/measured", help="`pathvars.benchmarks`")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that the run had")
    parser.add_argument("--output", type=Path, help="the picture, as SVG or PNG")
    arguments = parser.parse_args()
    jobs = recorded_jobs(arguments.folder, arguments.logs, arguments.benchmarks)
    print_table(jobs, arguments.cores)
    if arguments.output is not None:
        draw(jobs, arguments.cores, arguments.output)


def recorded_jobs(folder: Path, logs: str, benchmarks: str) -> list[RecordedJob]:
    """Return the jobs that made the outputs in a folder, the first one first."""
    outputs: dict[str, list[dict[str, object]]] = {}
    for file in (folder / ".snakemake" / "metadata").rglob("*"):
        if file.is_file():
            record = json.loads(file.read_text(encoding="utf-8"))
            (log,) = record["log"]
            outputs.setdefault(log, []).append(record)
    jobs = []
    for log, records in outputs.items():
        measured = folder / benchmarks / Path(log).relative_to(logs).with_suffix(".tsv")
        with measured.open(encoding="utf-8") as table:
            (row,) = csv.DictReader(table, delimiter="\t")
        jobs.append(
            RecordedJob(
                rule=NUMBER.sub("", str(records[0]["rule"])),
                start=min(float(str(record["starttime"])) for record in records),
                end=max(float(str(record["endtime"])) for record in records),
                cpu=float(row["cpu_time"]),
            )
        )
    first = min(job.start for job in jobs)
    shifted = [RecordedJob(job.rule, job.start - first, job.end - first, job.cpu) for job in jobs]
    return sorted(shifted, key=lambda job: job.start)


def lanes_of(jobs: Sequence[RecordedJob]) -> list[int]:
    """Return the core that each job is drawn on: the first that is free when it starts."""
    ends: list[float] = []
    lanes = []
    for job in jobs:
        free = (lane for lane, end in enumerate(ends) if end <= job.start)
        lane = next(free, len(ends))
        ends[lane : lane + 1] = [job.end]
        lanes.append(lane)
    return lanes


def idle_seconds(jobs: Sequence[RecordedJob], cores: int) -> float:
    """Return the core seconds in which fewer jobs than cores ran, from the first to the last."""
    moments = sorted([(job.start, 1) for job in jobs] + [(job.end, -1) for job in jobs])
    idle, running, last = 0.0, 0, 0.0
    for moment, change in moments:
        idle += (moment - last) * max(0, cores - running)
        running, last = running + change, moment
    return idle


def by_rule(jobs: Sequence[RecordedJob]) -> dict[str, list[RecordedJob]]:
    """Return the jobs of each rule, the rule that took the most time first."""
    found: dict[str, list[RecordedJob]] = {}
    for job in jobs:
        found.setdefault(job.rule, []).append(job)
    return dict(sorted(found.items(), key=lambda item: -sum(job.wall for job in item[1])))


def summary(jobs: Sequence[RecordedJob], cores: int) -> str:
    """Return what the run took as a whole, in one line."""
    wall = max(job.end for job in jobs)
    cpu = sum(job.cpu for job in jobs)
    return (
        f"{len(jobs)} jobs, {wall:.0f} s on {cores} cores, {cpu:.0f} CPU s "
        f"({cpu / (wall * cores):.0%} of the cores), {idle_seconds(jobs, cores):.0f} core s idle"
    )


def print_table(jobs: Sequence[RecordedJob], cores: int) -> None:
    """Print seconds and CPU seconds by rule, and of the whole run."""
    table = Table("rule", box=box.SIMPLE, title=summary(jobs, cores))
    for heading in (
        "jobs",
        "seconds",
        "CPU seconds",
        "CPU seconds a job",
        "first start",
        "last end",
    ):
        table.add_column(heading, justify="right")
    for rule, own in by_rule(jobs).items():
        cpu = sum(job.cpu for job in own)
        numbers = (sum(job.wall for job in own), cpu, cpu / len(own), own[0].start)
        last = max(job.end for job in own)
        table.add_row(rule, str(len(own)), *(f"{number:.1f}" for number in (*numbers, last)))
    Console(width=120).print(table)


def draw(jobs: Sequence[RecordedJob], cores: int, path: Path) -> None:
    """Draw each job as a bar from its start to its end on a core."""
    rules = list(by_rule(jobs))
    colours = {
        rule: look_of(place).colour if place < NAMED else FAINT for place, rule in enumerate(rules)
    }
    lanes = lanes_of(jobs)
    with paper_style():
        figure = new_figure(PAGE_WIDTH, 1.1 + 0.3 * (max(lanes) + 1))
        axes = figure.subplots()
        for job, lane in zip(jobs, lanes, strict=True):
            axes.barh(
                lane, job.wall, left=job.start, height=0.8, color=colours[job.rule],
                edgecolor="white", linewidth=0.3,
            )  # fmt: skip
        axes.set_yticks(range(max(lanes) + 1), [f"core {n + 1}" for n in range(max(lanes) + 1)])
        axes.invert_yaxis()
        axes.set_xlabel("seconds since the first job started")
        axes.set_xlim(0, max(job.end for job in jobs))
        axes.set_title(summary(jobs, cores), color=INK)
        named = [Patch(color=colours[rule], label=rule) for rule in rules[:NAMED]]
        others = [Patch(color=FAINT, label="other rules")] if len(rules) > NAMED else []
        figure.legend(handles=[*named, *others], loc="outside lower center", ncols=4)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
