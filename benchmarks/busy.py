"""Speed of training, extraction and patching beside another busy program, against a quiet machine.

The other program is a loop that never rests, one process for every two cores. Each task runs some
seconds without it and some with it, in turns, so that what else the machine does falls on both.
Random-weight Llamas stand in for real models, by default of the width of the demo's and of a wider
one, where several threads begin to pay off:

  pretraining  steps of a model: forward, backward, Muon and AdamW
  autoencoder  steps of a TopK autoencoder of eight latents a dimension
  extraction   all layers' activations, written as shards
  patching     4 settings from every start layer, with generated answers

Threads of programs wait for each other asleep, which the environment says here.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/busy.py --json results/benchmark.json
    python benchmarks/busy.py --sizes 256x6 --threads 2
    OMP_WAIT_POLICY=ACTIVE python benchmarks/busy.py
    python benchmarks/busy.py --quick
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from extraction_engines import VOCABULARY, Task, random_corpus, random_llama
from glossogenesis.concepts.translation import run_patching
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.pretraining.optimizers import HalvedBatches, make_optimizers
from glossogenesis.pretraining.training import mean_loss
from glossogenesis.study.pretrain import OptimizerSettings
from measurement import benchmark_parser, write_report
from patching import random_request
from sae_programs import Setting, our_run

Once = Callable[[], object]

CONTEXT = 96
BATCH = 42
"""Contexts of a pretraining step, as in the demo."""


@dataclass(frozen=True)
class Comparison:
    """One task at one size and number of threads; one row of the table."""

    task: str
    hidden: int
    layers: int
    threads: int
    quiet: float
    """Runs a second, median over the turns."""
    busy: float
    """The same beside the other program."""

    @property
    def ratio(self) -> float:
        """What is left of the quiet speed."""
        return self.busy / self.quiet


def main() -> None:
    """Measure every task at every size and number of threads, print the table, write the JSON."""
    arguments = parse_arguments()
    rows = [
        compare(arguments, name, prepare, size, threads)
        for size in arguments.sizes
        for name, prepare in tasks_of(*size)
        for threads in arguments.threads
    ]
    Console(width=120).print(table_of(rows))
    write_report(arguments, rows=[asdict(row) | {"ratio": row.ratio} for row in rows])


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` makes everything small."""
    parser = benchmark_parser(str(__doc__))
    parser.set_defaults(device="cpu")
    parser.add_argument(
        "--sizes",
        type=lambda text: tuple(int(number) for number in text.split("x")),
        nargs="+",
        default=[(128, 6), (512, 6)],
        metavar="WIDTHxLAYERS",
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn, at least")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    arguments = parser.parse_args()
    arguments.threads = [1, 2] if arguments.threads is None else [arguments.threads]
    if arguments.quick:
        arguments.sizes, arguments.seconds, arguments.repeats = [(64, 2)], 0.2, 1
    return arguments


def tasks_of(hidden: int, layers: int) -> Iterator[tuple[str, Callable[[], Once]]]:
    """Yield each task's name and what gives one run of it, once the number of threads is set."""
    model = random_llama(hidden, layers, CONTEXT, device="cpu", dtype="float32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = random_corpus(folder / "corpus", 4 * BATCH, CONTEXT)
        task = Task(model, corpus, folder / "activations", batch_size=BATCH, window=1 << 14)
        yield "extraction", lambda: partial(extract, task)
    request = random_request(
        model,
        argparse.Namespace(prompts=8, vocabulary=VOCABULARY, suffix=5, batch_size=32),
        CONTEXT,
        generate=True,
    )
    yield "patching", lambda: partial(run_patching, model, request, batch_size=32)
    run = our_run(Setting(hidden, 8 * hidden, 8, 1024, "cpu", "float32"))
    activations = torch.randn(1024, hidden)
    yield "autoencoder", lambda: partial(run.step, activations)
    yield "pretraining", partial(pretraining_step, model)


def extract(task: Task) -> None:
    """Write all caches again; those that are there would stay."""
    for manifest in task.folder.glob("*/manifest.json"):
        manifest.unlink()
    task.ours()


def pretraining_step(model: Anatomy) -> Once:
    """Return what takes one step."""
    model.model.requires_grad_(True)
    weights = list(model.model.parameters())
    batches = HalvedBatches(lambda rows: mean_loss(model, rows, "float32"), weights, "cpu")
    optimizers = make_optimizers(model, OptimizerSettings(name="muon"))
    batch = torch.randint(3, VOCABULARY, (BATCH, CONTEXT))

    def update() -> None:
        for optimizer in optimizers:
            optimizer.step()

    def step() -> None:
        batches.backward(batch)
        batches.run(update)

    return step


def compare(
    arguments: argparse.Namespace,
    name: str,
    prepare: Callable[[], Once],
    size: tuple[int, int],
    threads: int,
) -> Comparison:
    """Measure a task in turns on the quiet and on the busy machine."""
    torch.set_num_threads(threads)
    once = prepare()
    once()
    quiet, busy = [], []
    for _ in range(arguments.repeats):
        quiet.append(speed(once, arguments.seconds))
        with other_program():
            busy.append(speed(once, arguments.seconds))
    return Comparison(name, *size, threads, statistics.median(quiet), statistics.median(busy))


def speed(once: Once, seconds: float) -> float:
    """Runs a second, over some seconds."""
    start, runs = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or not runs:
        once()
        runs += 1
    return runs / passed


@contextmanager
def other_program() -> Iterator[None]:
    """Keep half of the cores busy."""
    number = max(1, (os.cpu_count() or 1) // 2)
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(number)]
    time.sleep(0.3)
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def table_of(rows: list[Comparison]) -> Table:
    """The measurements as a table."""
    table = Table(
        box=box.SIMPLE,
        title=f"{os.cpu_count()} cores, half of them taken by another program; "
        f"OMP_WAIT_POLICY {os.environ.get('OMP_WAIT_POLICY', 'not set')}",
    )
    for heading in ("task", "width", "layers", "threads", "quiet /s", "busy /s", "busy / quiet"):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = (row.hidden, row.layers, row.threads)
        speeds = (f"{row.quiet:.3g}", f"{row.busy:.3g}", f"{row.ratio:.2f}")
        table.add_row(row.task, *map(str, numbers), *speeds)
    return table


if __name__ == "__main__":
    main()
