"""A run of the literal command `snakemake --profile slurm` on a real Slurm."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from support.slurm.local_slurm import LocalSlurm, wait_for
from support.slurm.slurm_jobs import SlurmJob, read_jobs
from support.working_tree import WorkingTree

PROMPTLY = "--slurm-init-seconds-before-status-checks 2"
"""By itself the plugin looks after 40 seconds at what became of its jobs."""

SECONDS_BETWEEN_LOOKS = 3

IMPATIENCE = f"""\
import sys

# Python runs this as it starts. After each look at its jobs the plugin waits 10 seconds longer for
# the next, up to three minutes: far longer than these jobs take. Only the driver is hurried.
if "--profile" in sys.orig_argv:
    import asyncio

    sleep = asyncio.sleep
    asyncio.sleep = lambda seconds, *rest: sleep(min(seconds, {SECONDS_BETWEEN_LOOKS}), *rest)
"""

LIMIT_SECONDS = 600
"""After which a run has failed."""

WATCHED_PYTHON = """\
#!/bin/sh
# `python` as jobs find it: writes down what the job was given while it runs, and goes on as Python.
{{
    echo "PROGRAM $(basename "$1" .py) GPUS=${{CUDA_VISIBLE_DEVICES-}}"
    scontrol --oneliner --details show job "$SLURM_JOB_ID"
}} >> "$GIVEN/$SLURM_JOB_ID"
case "$*" in {hungry})
    {python} -c 'import time; held = b"x" * {hunger_mb} * 2**20; time.sleep(5)' || exit 1
esac
exec {python} "$@"
"""

NOBODY = "nobody"


@dataclass(frozen=True)
class Program:
    """A program that a job ran, and what the job had then."""

    name: str
    visible_gpus: tuple[int, ...]
    """`CUDA_VISIBLE_DEVICES`."""
    job: SlurmJob


@dataclass
class ClusterRun:
    """A driver in the background, and the jobs that it submits."""

    slurm: LocalSlurm
    tree: WorkingTree
    process: subprocess.Popen[bytes]
    log: Path
    given: Path
    started: float
    seconds: float = 0.0

    def wait(self) -> "ClusterRun":
        """Wait for the driver's end; it has to be a good one."""
        try:
            status = self.process.wait(LIMIT_SECONDS)
        finally:
            self.end()
        self.seconds = time.monotonic() - self.started
        assert status == 0, self.printed
        return self

    def end(self) -> None:
        """Kill the driver if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def printed(self) -> str:
        """What the driver has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def jobs(self, rule: str | None = None) -> list[SlurmJob]:
        """Return the jobs of this run, or those of one rule, oldest first."""
        folder = str(self.tree.root)
        jobs = [job for job in self.slurm.jobs() if job.fields["WorkDir"] == folder]
        return [job for job in jobs if rule in (None, job.rule)]

    def attempts(self, name: str) -> list[SlurmJob]:
        """Return the jobs that were submitted for one job of the workflow, oldest first."""
        return [job for job in self.jobs() if job.name == name]

    def programs(self) -> list[Program]:
        """Return what the jobs of this run have run so far."""
        return [program for path in self.given.iterdir() for program in _read_programs(path)]

    def first_running(self, names: Iterable[str]) -> str:
        """Wait until one of several jobs runs its program; return which."""
        found: list[str] = []

        def is_any_running() -> bool:
            assert self.process.poll() is None, self.printed
            found.extend(name for name in names if self._is_running(name))
            return bool(found)

        wait_for(f"{', '.join(names)} to run", is_any_running, lambda: self.printed, LIMIT_SECONDS)
        return found[0]

    def _is_running(self, name: str) -> bool:
        rule, _, wildcards = name.partition(" ")
        # It appears when the job's command starts.
        log = self.tree.root / "logs" / rule / f"{wildcards.replace('_', '/')}.log"
        return log.exists() and [job.state for job in self.attempts(name)][-1:] == ["RUNNING"]


def start_run(
    slurm: LocalSlurm,
    tree: WorkingTree,
    arguments: str = "",
    *,
    environment: dict[str, str] | None = None,
    hungry: str = NOBODY,
    hunger_mb: int = 0,
) -> ClusterRun:
    """Start `snakemake --profile slurm` on the tree's study.

    The command that names `hungry` takes `hunger_mb` of memory before it starts its program.
    """
    beside = tree.root.parent
    programs, given, log = beside / "programs", beside / "given", beside / "driver.log"
    # Logs of an earlier run would look like programs that run now.
    shutil.rmtree(tree.root / "logs", ignore_errors=True)
    for folder in (programs, given):
        folder.mkdir(exist_ok=True)
    pattern = "*" + "*".join(shlex.quote(word) for word in hungry.split()) + "*"
    python = programs / "python"
    python.write_text(
        WATCHED_PYTHON.format(python=sys.executable, hungry=pattern, hunger_mb=hunger_mb), "utf-8"
    )
    python.chmod(0o755)
    (programs / "sitecustomize.py").write_text(IMPATIENCE, encoding="utf-8")
    search_path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    command = f"snakemake --profile slurm --configfile {tree.study} {PROMPTLY} {arguments}"
    with log.open("wb") as printed:
        process = subprocess.Popen(
            slurm.command(*shlex.split(command), folder=tree.root),
            env={
                **{name: value for name, value in os.environ.items() if "SNAKEMAKE" not in name},
                "PATH": os.pathsep.join(search_path),
                "PYTHONPATH": os.pathsep.join([str(tree.root / "workflow_scripts"), str(programs)]),
                # A profile of the user's own must not answer for the repository's.
                "XDG_CONFIG_HOME": str(beside / "no-config"),
                "GIVEN": str(given),
                **(environment or {}),
            },
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return ClusterRun(slurm, tree, process, log, given, time.monotonic())


def _read_programs(path: Path) -> list[Program]:
    lines = path.read_text(encoding="utf-8").splitlines()
    programs = []
    for line, after in pairwise(lines):
        if line.startswith("PROGRAM "):
            _, name, gpus = line.split()
            visible = gpus.removeprefix("GPUS=")
            programs.append(
                Program(
                    name,
                    tuple(int(number) for number in visible.split(",") if number),
                    read_jobs(after)[0],
                )
            )
    return programs
