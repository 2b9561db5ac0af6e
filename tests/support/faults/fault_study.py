"""A study of few and short jobs that has every stage, in a copy of the repository."""

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.working_tree import copy_of_repository

HOOKS = Path(__file__).parents[2] / "faults" / "hooks"

STUDY = """\
study: faults
checkpoints: faults.tsv
lexicon: {path: resources/demo/lexicon.tsv, limit: 40}
languages:
  en: {endonym: English, script: Latin, group: pivot, share: {1: 0.4}}
  es: {endonym: Español, script: Latin, group: seen, share: {1: 0.2}}
  ru: {endonym: Русский, script: Cyrillic, group: seen, share: {1: 0.2}}
  fi: {endonym: Suomi, script: Latin, group: seen, share: {1: 0.2}}
models:
  tiny: {batch_size: 64, gpus: 0, threads: 1, layers: [1]}
pretrain:
  tiny:
    text: {kind: demo, phases: {1: {pairs: all}}}
    steps: {1: 24}
    saved_steps: [12, 24]
    model: {vocabulary: 400, hidden: 16, layers: 2, heads: 2, feed_forward: 32}
    batch: 4
    context: 64
    tokenizer_characters: 20000
corpora:
  documents:
    text: {kind: demo, languages: [en, ru]}
    train_tokens: 1500
    held_out_tokens: 1000
    held_out_share: 0.4
    context: 32
concepts:
  items: 6
  few_shot: 2
  space_variants: false
  target_pairs: [[es, en]]
  unpatched_pairs: [[en, en]]
features:
  corpus: documents
  checkpoints: {tiny: [last]}
  activations: {window: 512}
  saes:
    topk: {latents: 32, k: 4, batch_size: 64, learning_rates: [0.001, 0.01], warmup_steps: 2}
  language: {examples: 5}
  recovery: {contexts: 4}
  tracking: {enabled: false}
  resamples: 100
"""

SHEET = """\
model\tcheckpoint\tstep\ttokens\tphase\tsource\trevision\tsubfolder
tiny\tmiddle\t12\t3072\t1\tpretrain:tiny\t\t
tiny\tlast\t24\t6144\t1\tpretrain:tiny\t\t
"""

STATES_AT_EVERY_STEP = {
    "rules/checkpoints.smk": " --resume-dir {params.resume_dir:q} --threads",
    "rules/saes.smk": " --resume-dir {params.resume_dir:q} --threads",
}
"""Where unfinished training keeps its state after every step, which the study leaves to
the programs: these jobs last milliseconds."""

TABLES = ("results/tables/concepts_accuracy.csv", "results/tables/features_stages.csv")
"""Targets from which all tables follow; figures are left out."""

NO_ARTIFACTS = ("driver.lock", "resume", "runs")
"""What lies in the folder of results, and may differ between equal runs."""


@dataclass(frozen=True)
class FaultTree:
    """A copy of the repository with the study, in which drivers are started and killed."""

    root: Path
    groups: list[int] = field(default_factory=list)
    """Process groups of the drivers that were started."""

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.root / "results"

    @property
    def plans(self) -> Path:
        """The folder of faults that are still to come; see `hooks/sitecustomize.py`."""
        return self.root / "plans"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a driver in a process group of its own; it prints to `driver.log`."""
        with (self.root / "driver.log").open("ab") as log:
            driver = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *arguments, "--configfile", "faults.yaml"],
                cwd=self.root,
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.root / "driver.pid").write_text(str(driver.pid))
        self.groups.append(driver.pid)
        return driver

    def run(self, *targets: str) -> int:
        """Run the study, or what leads to some targets, once; return the driver's exit status."""
        return self.start(*options(targets)).wait()

    def run_to_the_end(self, *targets: str, attempts: int = 6) -> int:
        """Start the study again until it is finished; return how many drivers it took."""
        for attempt in range(1, attempts + 1):
            if self.run(*targets) == 0:
                self.wait_for_orphans()
                return attempt
        raise AssertionError(f"not finished after {attempts} drivers:\n{self.printed()}")

    def glossogenesis(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command-line tool in the tree."""
        return subprocess.run(
            [sys.executable, "-m", "glossogenesis.cli", *arguments],
            cwd=self.root,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def follow_the_fix(self, printed: str, *targets: str) -> None:
        """Carry out the two commands that `verify` prints; `targets` are asked for beside them."""
        delete = re.search(r"^ *(rm -f .*)$", printed, re.M)
        make = re.search(r"^ *snakemake --cores all (.*)$", printed, re.M)
        if delete and make:
            subprocess.run(shlex.split(delete[1]), cwd=self.root, check=True)
            targets = (*targets, *shlex.split(make[1]))
        if targets:
            self.run_to_the_end(*targets, attempts=1)

    def wait_for_orphans(self, seconds: float = 120.0) -> None:
        """Wait until no process of any driver that was started is left."""
        end = time.monotonic() + seconds
        while any(is_alive(group) for group in self.groups):
            assert time.monotonic() < end, "jobs of a killed driver do not end"
            time.sleep(0.1)
        self.groups.clear()

    def printed(self) -> str:
        """The end of what drivers and failed jobs printed."""
        logs = sorted((self.root / "logs").rglob("*.log"), key=lambda path: path.stat().st_mtime)
        ends = [path.read_text(errors="replace")[-600:] for path in logs[-2:]]
        return "\n".join([(self.root / "driver.log").read_text(errors="replace")[-3000:], *ends])

    def _environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(HOOKS), str(self.root / "workflow_scripts")]),
            "FAULT_PLANS": str(self.plans),
            "FAULT_DRIVER": str(self.root / "driver.pid"),
        }


def options(targets: Sequence[str]) -> list[str]:
    """Arguments of a driver that makes some targets, or all."""
    return [*targets, "--cores", "2", "--rerun-incomplete", "--show-failed-logs"]


def is_alive(group: int) -> bool:
    """Return whether a process group has a process that is not a zombie of this one."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def fresh_tree(root: Path) -> FaultTree:
    """Copy the repository's sources and write the study into it."""
    tree = copy_of_repository(root)
    (root / "faults.yaml").write_text(STUDY, encoding="utf-8")
    (root / "faults.tsv").write_text(SHEET, encoding="utf-8")
    for path, option in STATES_AT_EVERY_STEP.items():
        tree.edit(path, option, f" --seconds-between-states 0{option}")
    (root / "plans").mkdir()
    return FaultTree(root)


def copy_of(tree: FaultTree, root: Path) -> FaultTree:
    """Copy a tree with all that it has made."""
    shutil.copytree(tree.root, root, symlinks=True)
    return FaultTree(root)


def blank_copy_of(tree: FaultTree, root: Path) -> FaultTree:
    """Copy a tree without anything that it has made: the very same programs, from the beginning."""
    made = shutil.ignore_patterns(".snakemake", "results", "logs", "benchmarks", "driver.*")
    shutil.copytree(tree.root, root, ignore=made)
    return FaultTree(root)


def kill(driver: subprocess.Popen[bytes], *, group: bool = False) -> None:
    """Kill a driver at once, or all processes of its group."""
    (os.killpg if group else os.kill)(driver.pid, signal.SIGKILL)
    driver.wait()


def artifacts(results: Path) -> dict[str, str]:
    """Digests of all that must be equal in equal runs, by path; whatever was left behind counts."""
    return {
        path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(results)
    }


def _files(results: Path) -> Iterator[Path]:
    for path in sorted(results.rglob("*")):
        if path.is_file() and path.relative_to(results).parts[0] not in NO_ARTIFACTS:
            yield path


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Artifacts that are missing, different or too many."""
    missing = [f"{path}: missing" for path in expected if path not in found]
    unexpected = [f"{path}: too many" for path in found if path not in expected]
    both = found.keys() & expected.keys()
    different = [f"{path}: different" for path in sorted(both) if found[path] != expected[path]]
    return [*missing, *unexpected, *different]
