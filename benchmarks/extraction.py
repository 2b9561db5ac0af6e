"""Speed of writing all layers' activations, against the language model alone, in one run.

Random-weight Llamas stand in for real models: weights do not change the work. All see the same
packed contexts of random tokens, in equally large batches:

  plain    transformers' forward pass of the decoder, without head; nothing is kept
  ours     the same contexts, every layer kept, shuffled in windows, written as bfloat16 shards
           with checksums, manifests last
  SAELens  its activation store in the mode that serves several layers from one pass (float32,
           mixed in memory, nothing written), where sae-lens is installed

Runs take turns, so that what else the machine does falls on all of them; numbers are medians, and
ratios are medians of the ratios of runs that followed each other.

    python benchmarks/extraction.py --threads 2 --json results/benchmark.json
    python benchmarks/extraction.py --quick
    python benchmarks/extraction.py --device cuda --dtype bfloat16 --sizes 1024x16 2048x24
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from extraction_engines import SaeLens, Task, has_sae_lens, random_corpus, random_llama
from measurement import Measurement, benchmark_parser, device_of, measure, write_report


@dataclass(frozen=True)
class Comparison:
    """All engines on one model and context length; one row of the table."""

    hidden: int
    layers: int
    context: int
    tokens: int
    """That go through the model in one run."""
    megabytes: float
    """That one run of ours writes."""
    runs: dict[str, list[Measurement]]
    """Engine to its runs, in the order in which engines took turns."""

    def tokens_per_second(self, engine: str) -> float:
        """Median over the runs."""
        return self.tokens / statistics.median(run.seconds for run in self.runs[engine])

    def ratio_to_plain(self, engine: str, quantity: str = "seconds") -> float:
        """Median over the rounds of an engine's `seconds` or `cpu_seconds` over plain's."""
        pairs = zip(self.runs[engine], self.runs["plain"], strict=True)
        return statistics.median(getattr(a, quantity) / getattr(b, quantity) for a, b in pairs)

    def peak_megabytes(self, engine: str) -> float:
        """Peak memory above what was in use before, of the run that took most."""
        return max(run.peak_megabytes for run in self.runs[engine])

    def for_report(self) -> dict[str, Any]:
        """What was measured and what follows from it, by engine."""
        return asdict(self) | {
            "tokens_per_second": {name: self.tokens_per_second(name) for name in self.runs},
            "ratio_to_plain": {name: self.ratio_to_plain(name) for name in self.runs},
            "cpu_ratio_to_plain": {
                name: self.ratio_to_plain(name, "cpu_seconds") for name in self.runs
            },
        }


def main() -> None:
    """Run every size and context length, print the table, write the JSON."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    comparisons = [
        compare(arguments, hidden, layers, context)
        for hidden, layers in arguments.sizes
        for context in arguments.contexts
    ]
    console = Console(width=150)
    console.print(table_of(comparisons, arguments))
    if not has_sae_lens():
        console.print("sae-lens is not installed (extra `peers`), so it was not measured.")
    write_report(arguments, comparisons=[row.for_report() for row in comparisons])


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` makes everything small."""
    parser = benchmark_parser(str(__doc__))
    parser.add_argument(
        "--sizes",
        type=lambda text: tuple(int(number) for number in text.split("x")),
        nargs="+",
        default=[(256, 8), (512, 12)],
        metavar="WIDTHxLAYERS",
        help="models, such as 512x12",
    )
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--tokens", type=int, default=65_536, help="in one run")
    parser.add_argument("--window", type=int, default=16_384, help="tokens of a shard")
    parser.add_argument("--batch-tokens", type=int, default=4_096, help="of a forward pass")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which all take turns")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--folder", type=Path, help="where shards are written; default: temporary")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.contexts, arguments.repeats = [(64, 3)], [32], 2
        arguments.tokens, arguments.window, arguments.batch_tokens = 4_096, 1_024, 512
    return arguments


def compare(arguments: argparse.Namespace, hidden: int, layers: int, context: int) -> Comparison:
    """Let all engines take turns on one model."""
    anatomy = random_llama(hidden, layers, context, device=arguments.device, dtype=arguments.dtype)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        task = Task(
            anatomy=anatomy,
            corpus=random_corpus(folder / "corpus", arguments.tokens // context, context),
            folder=folder / "activations",
            batch_size=max(1, arguments.batch_tokens // context),
            window=arguments.window,
        )
        engines: dict[str, Callable[[], None]] = {"plain": task.plain, "ours": task.ours}
        if has_sae_lens():
            engines["SAELens"] = SaeLens(task).draw_all
        runs: dict[str, list[Measurement]] = {engine: [] for engine in engines}
        for turn in range(1 + arguments.repeats):
            for engine, once in engines.items():
                _, measured = measure(anatomy, once, repeats=1)
                # The first round loads and compiles.
                if turn:
                    runs[engine].append(measured)
        written = sum(path.stat().st_size for path in task.folder.rglob("*.safetensors"))
    tokens = task.corpus.facts("train").contexts * context
    return Comparison(hidden, layers, context, tokens, written / 1e6, runs)


def table_of(comparisons: list[Comparison], arguments: argparse.Namespace) -> Table:
    """The measurements as a table; "time" and "CPU" are ratios to plain."""
    table = Table(
        box=box.SIMPLE,
        title=f"All layers of {arguments.dtype} Llamas on {device_of(arguments)}, "
        f"{arguments.repeats} rounds of {arguments.tokens} tokens; times against plain",
    )
    engines = list(comparisons[0].runs)
    columns: dict[str, Callable[[Comparison], str]] = {
        "width": lambda row: str(row.hidden),
        "layers": lambda row: str(row.layers),
        "context": lambda row: str(row.context),
        "MB written": lambda row: f"{row.megabytes:.0f}",
    }
    for name in engines:
        columns[f"{name} tok/s"] = lambda row, name=name: f"{row.tokens_per_second(name):.0f}"
    for name in engines[1:]:
        columns |= {
            f"{name} time": lambda row, name=name: f"{row.ratio_to_plain(name):.2f}x",
            f"{name} CPU time": lambda row, name=name: (
                f"{row.ratio_to_plain(name, 'cpu_seconds'):.2f}x"
            ),
            f"{name} peak MB": lambda row, name=name: f"{row.peak_megabytes(name):.0f}",
        }
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in comparisons:
        table.add_row(*(text(row) for text in columns.values()))
    return table


if __name__ == "__main__":
    main()
