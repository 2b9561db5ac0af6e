r"""What one job asks of the file system: calls that name a file, and files that it leaves.

Run it in a folder with a finished study. Each job is started again as an executor starts it on a
node (Snakemake reads the workflow, then the job's program runs) under `strace`, which must be
installed, and its calls are counted by what they do and where:

  look     stat, access, readlink and the like
  open     files and folders opened to be read
  change   files opened to be written, and folders made, names changed, files removed
  absent   those of all the above that found nothing there

    cd finished && python .../benchmarks/dag_files.py --configfile small.yaml \\
        train_saes:model=tiny,checkpoint=last,sae=topk
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

CALL = re.compile(r'^\d+ +(?P<name>\w+)\((?:[\w-]+(?:<[^>]*>)?, )?"(?P<path>[^"]+)"(?P<rest>.*)')
OPEN = ("open", "openat", "openat2")
CHANGE = re.compile("mkdir|rename|unlink|rmdir|f?chmod|utime|link|symlink|creat")
KINDS = ("look", "open", "change", "absent")
RESULTS = ("results", "logs", "benchmarks", ".snakemake")
SOURCES = ("Snakefile", "rules", "workflow_scripts", "resources", "envs")


def main() -> None:
    """Trace every job and print its calls."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configfile", required=True, help="the frozen copy of the study")
    parser.add_argument("jobs", nargs="+", metavar="RULE:WILDCARD=VALUE,...")
    arguments = parser.parse_args()
    table = Table(box=box.SIMPLE, title="Calls that name a file, one job")
    table.add_column("job")
    table.add_column("where")
    for kind in KINDS:
        table.add_column(kind, justify="right")
    for job in arguments.jobs:
        counts = calls_of(job, arguments.configfile)
        for where in ("results", "workflow", "Python and system"):
            numbers = (f"{counts[where, kind]:,}" for kind in KINDS)
            table.add_row(job.partition(":")[0] if where == "results" else "", where, *numbers)
    Console(width=120).print(table)


def calls_of(job: str, configfile: str) -> Counter[tuple[str, str]]:
    """Start a job under strace; return the numbers of its calls by place and kind."""
    rule = job.partition(":")[0]
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile"]
    command += ["--configfile", configfile, "--target-jobs", job, "--allowed-rules", rule]
    command += ["--mode", "remote", "--cores", "1", "--force", "--nolock", "--no-hooks"]
    command += ["--ignore-incomplete", "--max-inventory-time", "0"]
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        subprocess.run(
            ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%file", "-o", trace, *command],
            check=True,
            capture_output=True,
        )
        lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines:
        match = CALL.match(line)
        if match is None:
            continue
        where, kind = place_of(match["path"]), kind_of(match["name"], match["rest"])
        counts[where, kind] += 1
        counts[where, "absent"] += "ENOENT" in match["rest"]
    return counts


def kind_of(name: str, rest: str) -> str:
    """Return what a call does."""
    if CHANGE.match(name) or (name in OPEN and re.search("O_CREAT|O_WRONLY|O_RDWR", rest)):
        return "change"
    return "open" if name in OPEN else "look"


def place_of(path: str) -> str:
    """Return where a file lies: among results and records, in the workflow, or elsewhere."""
    first = Path(os.path.relpath(path)).parts[:1]
    if first and first[0] in RESULTS:
        return "results"
    libraries = (sysconfig.get_paths()["purelib"], sys.prefix)
    written = os.path.normpath(Path.cwd() / path)
    is_here = first and first[0] != ".." and not written.startswith(libraries)
    return "workflow" if is_here else "Python and system"


if __name__ == "__main__":
    main()
