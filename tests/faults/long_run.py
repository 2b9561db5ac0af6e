"""Many faults over a whole small study, and a table of what became of each.

    export PYTHONPATH=tests
    python tests/faults/long_run.py [--folder FOLDER] [--kinds kill disk state damage] [--seed N]

Every line of the table is one fault. Its outcome is `equal` where, after a new start or what the
workflow said to do, all artifacts have the bytes of a run without faults. The exit status is 1
where one has not. The folder, a temporary one by default, is kept where one is given.
"""

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from support.faults.damage import DAMAGES
from support.faults.fault_study import (
    FaultTree,
    artifacts,
    blank_copy_of,
    copy_of,
    differences,
    fresh_tree,
)
from support.faults.kills import rounds
from support.faults.moments import Kill, pending, plan
from support.faults.small_disk import bytes_on_disk, small_disk

RUNS_WITH_KILLS = 2
SHARES_OF_DISK = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.97)
"""How much of the room that the study needs a disk has, one after the other."""

STATES = {
    "pretrain_model": "results/pretraining/tiny/manifest.json",
    "train_saes": "results/sae/tiny/last/layer_1/topk/sae_weights.safetensors",
}
"""Programs that keep their state, and what to ask for so that they run."""

ARTIFACTS = {
    "pretraining": "pretraining/tiny/step_000024/model.safetensors",
    "pretraining, log": "pretraining/tiny/training.parquet",
    "pretraining, manifest": "pretraining/tiny/manifest.json",
    "checkpoint": "checkpoints/tiny/middle/manifest.json",
    "corpus": "corpora/documents/tiny/train_00000.safetensors",
    "corpus, manifest": "corpora/documents/tiny/manifest.json",
    "corpus, vocabulary": "corpora/documents/tiny/vocabulary.parquet",
    "prompts": "prompts/tiny/translation.parquet",
    "states": "concepts/tiny/last/states.safetensors",
    "patching": "concepts/tiny/middle/patching.parquet",
    "activations": "activations/tiny/last/documents/layer_1/train_00002.safetensors",
    "activations, manifest": "activations/tiny/last/documents/layer_1/manifest.json",
    "embeddings": "embeddings/tiny/tokens.safetensors",
    "autoencoder": "sae/tiny/last/layer_1/topk/sae_weights.safetensors",
    "autoencoder, configuration": "sae/tiny/last/layer_1/topk/cfg.json",
    "quality": "sae/tiny/last/layer_1/topk/quality.json",
    "features": "features/tiny/last/layer_1/topk/statistics.parquet",
    "examples": "features/tiny/last/layer_1/topk/examples.parquet",
    "recovery": "recovery/tiny/last/topk.parquet",
    "table": "tables/features_stages.parquet",
    "table as text": "tables/concepts_accuracy.csv",
    "figure": "figures/tiny/sae_quality.svg",
    "numbers of a figure": "figures/tiny/outcomes.csv",
}
"""One artifact of each kind, by stage."""

UNLISTED = re.compile(r"step_|train_0|held_out_0|vocabulary")
"""Files that no rule lists; `verify` misses them, since a manifest names them."""


@dataclass(frozen=True)
class Fault:
    """One fault, where and when it came, and what became of it."""

    kind: str
    stage: str
    moment: str
    outcome: str = ""


Part = Callable[[FaultTree, dict[str, str], Path, int], Iterator[Fault]]


def main() -> None:
    """Run the parts that are asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        undisturbed = finished_tree(folder / "undisturbed")
        expected = artifacts(undisturbed.results)
        show(f"undisturbed: {len(expected)} artifacts, {time.monotonic() - start:.0f} s")
        faults = [
            fault
            for kind in arguments.kinds
            for fault in PARTS[kind](undisturbed, expected, folder, arguments.seed)
        ]
    print_table(faults)
    if any(fault.outcome != "equal" for fault in faults):
        raise SystemExit(1)


def finished_tree(root: Path) -> FaultTree:
    """The study, run to its figures without disturbance, or as an earlier call left it."""
    if root.exists():
        return FaultTree(root)
    tree = fresh_tree(root)
    assert tree.run_to_the_end() == 1, tree.printed()
    return tree


def kills(
    undisturbed: FaultTree, expected: dict[str, str], folder: Path, seed: int
) -> Iterator[Fault]:
    """Kill steps, drivers and both, in some runs from the beginning to the end."""
    for number, planned in enumerate(rounds(RUNS_WITH_KILLS, seed)):
        tree = blank_copy_of(undisturbed, folder / f"killed_{number}")
        plan(tree.plans, planned)
        outcome = outcome_of(tree, expected, attempts=40)
        never = "".join(pending(tree.plans))
        for kill in planned:
            came = f'"path": "{kill.path}"' not in never or kill.program not in never
            fault = Fault(f"kill {kill.victim}", kill.program, str(kill).partition(", ")[2])
            yield shown(replace(fault, outcome=outcome if came else "never came"))


def full_disks(
    undisturbed: FaultTree, expected: dict[str, str], folder: Path, seed: int
) -> Iterator[Fault]:
    """Run on a disk that is too small, again and again, each time with some more room."""
    tree = blank_copy_of(undisturbed, folder / "small_disk")
    needed = bytes_on_disk(undisturbed.results)
    faults = []
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tree.results, int(SHARES_OF_DISK[0] * needed)))
        except OSError as error:
            show(f"no full disks: {error}")
            return
        for share in SHARES_OF_DISK:
            disk.resize(int(share * needed))
            (tree.root / "driver.log").unlink(missing_ok=True)
            if tree.run() != 0:
                log = (tree.root / "driver.log").read_text(errors="replace")
                stages = re.findall(r"Error in rule (\w+)", log) or ["start"]
                how = "reported in one line" if "Traceback" not in log else "with a traceback"
                faults.append(Fault("full disk", stages[0], f"{share:.0%} of the room, {how}"))
        disk.resize(20 * needed)
        outcome = outcome_of(tree, expected, attempts=2)
    for fault in faults:
        yield shown(replace(fault, outcome=outcome))


def damaged_states(
    undisturbed: FaultTree, expected: dict[str, str], folder: Path, seed: int
) -> Iterator[Fault]:
    """Kill a training, damage the state that it kept, and start it again."""
    tree = blank_copy_of(undisturbed, folder / "damaged_states")
    faults = []
    for program, target in STATES.items():
        for name, damage in DAMAGES.items():
            plan(tree.plans, [Kill("step", program, "os.rename", "state.safetensors", 6)])
            assert tree.run(target) != 0
            assert not pending(tree.plans), f"{program} was not killed:\n{tree.printed()}"
            (state,) = (tree.results / "resume").rglob("state.safetensors")
            damage(state)
            faults.append(Fault(f"state {name}", program, "5 states kept, then killed"))
    outcome = outcome_of(tree, expected, attempts=1)
    for fault in faults:
        yield shown(replace(fault, outcome=outcome))


def damaged_artifacts(
    undisturbed: FaultTree, expected: dict[str, str], folder: Path, seed: int
) -> Iterator[Fault]:
    """Damage artifacts of every kind, and follow what programs or `verify` say to do."""
    stages = list(ARTIFACTS.items())
    for number, (name, damage) in enumerate(DAMAGES.items()):
        tree = copy_of(undisturbed, folder / f"damaged_{number}")
        chosen = stages[(number + seed) % 2 :: 2]
        for _, path in chosen:
            damage(tree.results / path)
        finds = f"found by {'jobs, then ' if number % 2 else ''}verify"
        if number % 2:
            follow_jobs(tree)
        outcome = verified(tree, lost_in(tree, chosen))
        outcome = outcome or outcome_of(tree, expected, attempts=1)
        for stage, path in chosen:
            yield shown(Fault(name, stage, f"{Path(path).name}, {finds}", outcome))


def lost_in(tree: FaultTree, chosen: Iterable[tuple[str, str]]) -> list[str]:
    """Files that are gone, of those that a rule lists: nobody but their user can miss them."""
    lost = [path for _, path in chosen if not (tree.results / path).exists()]
    return [f"results/{path}" for path in lost if not UNLISTED.search(path)]


def follow_jobs(tree: FaultTree, attempts: int = 12) -> None:
    """Run the study and do what failing jobs say, until none fails."""
    arguments: list[str] = ["--keep-going"]
    for _ in range(attempts):
        (tree.root / "driver.log").unlink(missing_ok=True)
        if tree.run(*arguments) == 0:
            return
        errors = re.findall(r"^\s*Error: (.*)$", (tree.root / "driver.log").read_text(), re.M)
        arguments = ["--keep-going"]
        for error in dict.fromkeys(errors):
            show(f"    {error}")
            named = error.partition(":")[0]
            other = re.search(r"delete (\S+) and rerun", error)
            forced = re.search(r"--forcerun (\w+)", error)
            if forced:
                arguments += ["--forcerun", forced[1]]
            elif other or "delete it" in error or "no such" in error:
                path = tree.root / (other[1] if other and other[1] != "it" else named)
                path.unlink(missing_ok=True)


def verified(tree: FaultTree, lost: list[str]) -> str:
    """Do what `verify` says, ask for what was lost, and return what went wrong, if anything."""
    found = tree.glossogenesis("verify")
    for line in found.stderr.splitlines():
        show(f"    {line[:160]}")
    try:
        tree.follow_the_fix(found.stderr, *lost)
    except AssertionError as error:
        show(str(error))
        return "not made again"
    return ""


def outcome_of(tree: FaultTree, expected: dict[str, str], *, attempts: int) -> str:
    """Run a tree to its end and compare what it made."""
    try:
        tree.run_to_the_end(attempts=attempts)
    except AssertionError as error:
        show(str(error))
        return "not finished"
    wrong = differences(artifacts(tree.results), expected)
    for line in wrong:
        show(f"    {tree.root.name}: {line}")
    return f"{len(wrong)} artifacts differ" if wrong else "equal"


def shown(fault: Fault) -> Fault:
    """Print a fault as soon as its outcome is known, and return it."""
    show(f"{fault.kind:>20}  {fault.stage:<28} {fault.moment:<58} {fault.outcome}")
    return fault


def show(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def print_table(faults: list[Fault]) -> None:
    """Print how many faults of each kind there were, and their outcomes."""
    show("\nkind                    faults   outcome")
    for (kind, outcome), count in sorted(Counter((f.kind, f.outcome) for f in faults).items()):
        show(f"{kind:<22} {count:>7}   {outcome}")
    equal = sum(fault.outcome == "equal" for fault in faults)
    show(f"{equal} of {len(faults)} faults ended in equal bytes")


PARTS: dict[str, Part] = {
    "kill": kills,
    "disk": full_disks,
    "state": damaged_states,
    "damage": damaged_artifacts,
}

if __name__ == "__main__":
    main()
