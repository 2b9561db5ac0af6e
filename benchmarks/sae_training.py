"""Speed, memory and quality of training a TopK autoencoder against SAELens, in one run.

Speed: the time of a training step beside that of the encoder's matrix product alone, which no exact
TopK can do without. All take turns, so that what else runs on the machine hits all alike; times are
medians. Every program gets the same activations, whose content does not change the work.

Quality (`--quality`): both train on the same batches with the same settings, from a planted
dictionary or from the training split of an activation cache, and reconstruct the same held-out
activations.

    python benchmarks/sae_training.py --threads 2 --json results/benchmark.json
    python benchmarks/sae_training.py --quick
    python benchmarks/sae_training.py --device cuda --batch-size 32768 --precision bfloat16
    python benchmarks/sae_training.py --quality --threads 2
    python benchmarks/sae_training.py --quality --activations .../layer_3/manifest.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from measurement import benchmark_parser, device_of, peak_memory, write_report
from sae_programs import (
    HAS_SAE_LENS,
    OURS,
    PEER,
    Setting,
    our_run,
    peer_trainer,
    peer_version,
)
from sae_quality import cached_data, compare_quality, planted_data, quality_table

PRODUCT = "encoder product"
SIZES = [(512, 32768, 32), (256, 8192, 32), (768, 24576, 32)]


@dataclass(frozen=True)
class StepTime:
    """One program at one size; one row of the table."""

    program: str
    d_model: int
    n_latents: int
    k: int
    batch_size: int
    milliseconds: float
    """Median of a step."""
    of_product: float
    """Median over turns of the time as a multiple of the encoder's product in the same turn."""
    of_ours: float
    """The same as a multiple of this library's step."""
    cpu_of_product: float
    """As `of_product`, in CPU time of all threads, which other programs hardly move."""
    tokens_per_second: float
    peak_megabytes: float
    """Of one step, above what was in use before."""


def main() -> None:
    """Measure what the command line asks for, print the table, write the JSON."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    console = Console(width=120)
    if not HAS_SAE_LENS:
        console.print(f"{PEER} is not installed (extra `peers`): only this library is measured")
    rows: list[Any] = []
    if arguments.quality:
        rows = quality(arguments, console)
    else:
        for size in arguments.sizes:
            rows += compare_speed(setting_of(arguments, *size), arguments.repeats)
        console.print(speed_table(rows, arguments))
    write_report(arguments, peer=peer_version(), rows=[asdict(row) for row in rows])


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` makes everything small."""
    parser = benchmark_parser(str(__doc__))
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=lambda text: tuple(map(int, text.split(":"))),
        default=SIZES,
        help="width:latents:k of each autoencoder",
    )
    parser.add_argument("--batch-size", type=int, help="default: 2048, with --quality 512")
    parser.add_argument("--repeats", type=int, default=7, help="turns of every program")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    learnt = parser.add_argument_group("quality")
    learnt.add_argument("--quality", action="store_true", help="compare what is learnt")
    learnt.add_argument("--activations", type=Path, help="manifest of a cache; default: planted")
    learnt.add_argument("--latents", type=int, default=512)
    learnt.add_argument("--k", type=int, default=12)
    learnt.add_argument("--steps", type=int, default=2500)
    learnt.add_argument("--learning-rate", type=float, default=3e-3)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.batch_size, arguments.repeats = [(64, 2048, 16)], 256, 3
        arguments.steps = 40
    if arguments.batch_size is None:
        arguments.batch_size = 512 if arguments.quality else 2048
    return arguments


def setting_of(
    arguments: argparse.Namespace, d_model: int, n_latents: int, k: int, **changes: Any
) -> Setting:
    """What the programs are given of one size."""
    return Setting(
        d_model,
        n_latents,
        k,
        arguments.batch_size,
        arguments.device,
        arguments.precision,
        **changes,
    )


def quality(arguments: argparse.Namespace, console: Console) -> list[Any]:
    """Compare what is learnt and print it."""
    make = (arguments.batch_size, arguments.steps, arguments.device)
    if arguments.activations is None:
        batches, held_out = planted_data(*make)
    else:
        batches, held_out = cached_data(arguments.activations, *make)
    setting = setting_of(
        arguments,
        held_out.shape[1],
        arguments.latents,
        arguments.k,
        learning_rate=arguments.learning_rate,
        total_steps=len(batches),
        warmup_steps=len(batches) // 20,
        decay_steps=len(batches) // 5,
    )
    rows = compare_quality(setting, batches, held_out)
    console.print(quality_table(rows, setting))
    return rows


def compare_speed(setting: Setting, repeats: int) -> list[StepTime]:
    """Measure the product and every program at one size, in turns."""
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(setting.batch_size, setting.d_model, generator=generator)
    u = functional.normalize(activations, dim=1).to(setting.device)
    run = our_run(setting)
    programs: dict[str, Callable[[], None]] = {
        PRODUCT: product_of(u, setting),
        OURS: lambda: run.step(u),
    }
    if HAS_SAE_LENS:
        peer = peer_trainer(setting)
        programs[PEER] = lambda: peer.step(u)
        sparse = peer_trainer(setting, sparse_activations=True)
        if runs(sparse, u):
            programs[f"{PEER}, sparse activations"] = lambda: sparse.step(u)
    peaks = {name: peak_of(once, u.device) for name, once in programs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, once in programs.items():
            wall, cpu = seconds_of(once, u.device)
            seconds[name].append(wall)
            cpu_seconds[name].append(cpu)
    return [
        StepTime(
            program=name,
            d_model=setting.d_model,
            n_latents=setting.n_latents,
            k=setting.k,
            batch_size=setting.batch_size,
            milliseconds=1e3 * statistics.median(times),
            of_product=median_ratio(times, seconds[PRODUCT]),
            of_ours=median_ratio(times, seconds[OURS]),
            cpu_of_product=median_ratio(cpu_seconds[name], cpu_seconds[PRODUCT]),
            tokens_per_second=setting.batch_size / statistics.median(times),
            peak_megabytes=peaks[name],
        )
        for name, times in seconds.items()
    ]


def product_of(u: Tensor, setting: Setting) -> Callable[[], None]:
    """The encoder's product into memory that is there already: what every program must do."""
    dtype = getattr(torch, setting.precision)
    weights = functional.normalize(torch.randn(setting.n_latents, setting.d_model), dim=1)
    left, right = u.to(dtype), weights.to(u.device, dtype)
    result = torch.empty(len(u), setting.n_latents, dtype=dtype, device=u.device)

    def once() -> None:
        torch.mm(left, right.t(), out=result)

    return once


def runs(trainer: Any, u: Tensor) -> bool:
    """Return whether a program can take a step; torch lacks what SAELens' sparse option needs."""
    try:
        trainer.step(u)
    except NotImplementedError as error:
        reason = str(error).splitlines()[0][:100]
        print(f"{PEER} with sparse activations fails and is left out: {reason}")
        return False
    return True


def peak_of(once: Callable[[], None], device: torch.device) -> float:
    """Peak memory of a call in MB, after one that allocates what later ones use again."""
    once()
    with peak_memory(device) as peak:
        once()
    return peak[0]


def seconds_of(once: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds and CPU seconds of one call, until the device has done it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start, cpu_start = time.perf_counter(), time.process_time()
    once()
    wait()
    return time.perf_counter() - start, time.process_time() - cpu_start


def median_ratio(times: list[float], others: list[float]) -> float:
    """Median over turns of how many times longer one took than another in the same turn."""
    return statistics.median(time / other for time, other in zip(times, others, strict=True))


def speed_table(rows: list[StepTime], arguments: argparse.Namespace) -> Table:
    """Step times as a table."""
    table = Table(
        box=box.SIMPLE,
        title=f"TopK training step, {arguments.precision} encoder product, {device_of(arguments)}",
    )
    headings = ("program", "width", "latents", "k", "batch", "ms", "x product", "x ours")
    for heading in (*headings, "CPU x product", "tokens/s", "peak MB"):
        table.add_column(heading, justify="left" if heading == "program" else "right")
    for row in rows:
        table.add_row(
            row.program,
            *map(str, (row.d_model, row.n_latents, row.k, row.batch_size)),
            f"{row.milliseconds:.1f}",
            f"{row.of_product:.2f}",
            f"{row.of_ours:.2f}",
            f"{row.cpu_of_product:.2f}",
            f"{row.tokens_per_second:.0f}",
            f"{row.peak_megabytes:.0f}",
            end_section=row is rows[-1] or row.program.startswith(PEER),
        )
    return table


if __name__ == "__main__":
    main()
