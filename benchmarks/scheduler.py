"""What a run's own process, which starts the jobs, costs by their number: CPU, threads, the end.

The workflow as it is, with jobs added that sleep a tenth of a second. Then one more sleeps for half
a minute while another waits for it, as jobs of a large study wait for a processor: what the run
takes in that time it takes for nothing.

  machine   `snakemake --cores 32`
  slurm     `snakemake --profile slurm --jobs 200` and stand-ins for Slurm's programs, whose jobs
            are files that `sbatch` makes at once

CPU seconds are of user and system, with those of the programs that the run starts (the solver that
chooses jobs, shells, `sbatch`).

    python benchmarks/scheduler.py --jobs 500 1000 2000 --json results/scheduler.json
    python benchmarks/scheduler.py --jobs 500 1000 2000 --as-snakemake-is
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parents[1]
LINKED = ("config.yaml", "rules", "workflow_scripts", "resources", "envs", "slurm")

NAPS = """

rule naps:
    input:
        expand("naps/{{number}}", number=range({jobs})),
        "long_nap",
        "last_nap",


rule nap:
    output:
        "naps/{{number}}",
    priority: 2
    shell:
        "sleep 0.1; echo > {{output}}"


rule long_nap:
    output:
        "long_nap",
    # As many as there are, so that it waits for the naps, and the last nap for it.
    threads: 10000
    priority: 1
    resources:
        bed=1,
    shell:
        "sleep 30; echo > {{output}}"


rule last_nap:
    output:
        "last_nap",
    threads: 10000
    resources:
        bed=1,
    shell:
        "echo > {{output}}"
"""

CORES = 32
"""Of the machine, as Snakemake is reported."""

COMMANDS = {
    "machine": f"snakemake --cores {CORES}",
    "slurm": "snakemake --profile slurm --jobs 200 --slurm-init-seconds-before-status-checks 1",
}

AS_SNAKEMAKE_IS = "\ndrop_idle_rounds = lambda scheduler: None\n"
"""Takes the place of rules/scheduler.smk."""

SLURM = {
    "sbatch": """\
for argument; do
    case "$argument" in
    rule_nap_wildcards_*) number=${argument##*_} id=1$number output=naps/$number ;;
    rule_long_nap) id=2 output=long_nap ;;
    rule_last_nap) id=3 output=last_nap ;;
    esac
done
finish() { : > $output; echo "$id|COMPLETED" >> ended; }
if [ $id = 2 ]; then { sleep 30; finish; } > /dev/null 2>&1 & else finish; fi
echo $id
""",
    "squeue": "cat ended\n",
    "scontrol": "echo 'MinJobAge = 300 sec'\n",
    "sinfo": "echo 'site_default*'\n",
    "sacct": "",
    "sacctmgr": "",
    "sshare": "",
    "scancel": "",
}

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What one run of so many jobs took."""

    where: str
    jobs: int
    cpu_seconds: float
    """Until the last of the short jobs had ended."""
    idle_share: float
    """Of a core, while the long job slept."""
    most_threads: int
    """Since a quarter of the short jobs had ended."""
    seconds_at_end: float
    """From the end of the last job to that of the run."""


@dataclass(frozen=True)
class Moment:
    """What there was to see of the process at one time."""

    seconds: float
    cpu_seconds: float
    threads: int
    ended: int
    long_nap_ended: bool


def main() -> None:
    """Measure every number of jobs in both places, print the table, write the JSON."""
    arguments = parse_arguments()
    costs: list[Cost] = []
    for where in arguments.where:
        for jobs in arguments.jobs:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
                costs.append(measure(Path(root), where, jobs, arguments.as_snakemake_is))
    Console(width=120).print(table_of(costs))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(cost) for cost in costs], indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--where", nargs="+", default=[*COMMANDS], choices=[*COMMANDS])
    parser.add_argument("--as-snakemake-is", action="store_true", help="without scheduler.smk")
    parser.add_argument("--folder", type=Path, help="where runs are made; default: temporary")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    return parser.parse_args()


def measure(root: Path, where: str, jobs: int, as_snakemake_is: bool = False) -> Cost:
    """Run so many jobs in an empty folder; RuntimeError where the run fails."""
    make_naps(root, jobs, as_snakemake_is)
    with (root / "printed").open("w") as printed:
        run = start(root, [*COMMANDS[where].split(), "naps", "--resources", "bed=1"], printed)
        moments: list[Moment] = []
        while run.poll() is None:
            moments.append(moment_of(run.pid, root))
            time.sleep(0.25)
    at_end = time.time() - (root / "last_nap").stat().st_mtime
    if run.returncode:
        raise RuntimeError((root / "printed").read_text(encoding="utf-8")[-2000:])
    later = [moment for moment in moments if moment.ended >= jobs / 4]
    # The naps are over, and the two seconds after that in which Snakemake looks at what they made.
    over = next(moment for moment in moments if moment.ended >= jobs)
    idle = [
        moment
        for moment in moments
        if moment.seconds > over.seconds + 2 and not moment.long_nap_ended
    ]
    slept = idle[-1].seconds - idle[0].seconds
    if slept < 10:
        raise RuntimeError(f"{where}: the run had only {slept:.0f} seconds without an event")
    return Cost(
        where,
        jobs,
        over.cpu_seconds,
        (idle[-1].cpu_seconds - idle[0].cpu_seconds) / slept,
        max(moment.threads for moment in later),
        at_end,
    )


def make_naps(root: Path, jobs: int, as_snakemake_is: bool = False) -> None:
    """Make a folder with the workflow, to which jobs that sleep are added, and a Slurm."""
    for name in LINKED:
        (root / name).symlink_to(REPOSITORY / name)
    workflow = (REPOSITORY / "Snakefile").read_text(encoding="utf-8") + NAPS.format(jobs=jobs)
    (root / "Snakefile").write_text(workflow + AS_SNAKEMAKE_IS * as_snakemake_is, encoding="utf-8")
    (root / "naps").mkdir()
    (root / "slurm_programs").mkdir()
    for name, script in SLURM.items():
        program = root / "slurm_programs" / name
        program.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
        program.chmod(0o755)
    (root / "ended").touch()


def start(root: Path, command: Sequence[str], printed: object) -> subprocess.Popen[bytes]:
    """Start Snakemake in such a folder."""
    programs = (str(root / "slurm_programs"), str(Path(sys.executable).parent), os.environ["PATH"])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")},
        "PATH": os.pathsep.join(programs),
        "PYTHONPATH": str(REPOSITORY / "workflow_scripts"),
        # A profile of the user's own must not answer for the repository's.
        "XDG_CONFIG_HOME": str(root / "no-config"),
    }
    return subprocess.Popen(command, cwd=root, env=environment, stdout=printed, stderr=printed)


def moment_of(process: int, root: Path) -> Moment:
    """Look at a process that has not been waited for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    cpu_seconds = sum(map(int, fields[11:15])) / CLOCK_TICKS
    ended = (root / "printed").read_text(encoding="utf-8").count("(Rule: nap)")
    long_nap_ended = (root / "long_nap").exists()
    return Moment(time.monotonic(), cpu_seconds, int(fields[17]), ended, long_nap_ended)


def table_of(costs: list[Cost]) -> Table:
    """The measurements as a table."""
    table = Table(box=box.SIMPLE, title="The process of a run")
    headings = ("where", "jobs", "CPU ms a job", "% of a core, idle", "threads", "seconds at end")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "where" else "right")
    for cost in costs:
        table.add_row(
            cost.where,
            f"{cost.jobs:,}",
            f"{cost.cpu_seconds / cost.jobs * 1000:.0f}",
            f"{cost.idle_share:.1%}".rstrip("%"),
            f"{cost.most_threads}",
            f"{cost.seconds_at_end:.1f}",
        )
    return table


if __name__ == "__main__":
    main()
