"""Seconds and memory of matching two dictionaries: this library's way, and on the whole matrix.

Dictionaries are those of two autoencoders, or synthetic: `linked` ones share their directions, with
more or less noise, in another order; `unrelated` ones share nothing. Beside this library: scipy's
assignment in float64, and lapjv's in float32 where it is installed, both on the matrix of all
cosines, whose seconds count too.

    python benchmarks/matching.py --threads 1 --latents 8192 --width 512
    python benchmarks/matching.py --threads 1 --saes FIRST/sae_weights.safetensors SECOND/...
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from glossogenesis.sae.files import read_sae
from glossogenesis.sae.similarity import match, unit_rows
from measurement import benchmark_parser, device_of, peak_memory, write_report

CHUNK = 256
"""Rows of the matrix that are computed at a time."""

Columns = NDArray[np.integer]
Matcher = Callable[[Tensor, Tensor], Columns]


@dataclass(frozen=True)
class Row:
    """One program on one pair of dictionaries."""

    dictionaries: str
    program: str
    seconds: float
    cpu_seconds: float
    peak_megabytes: float
    """Above what the dictionaries take."""
    total: float
    """Sum of cosines of the pairs, in float64 from the directions."""


def main() -> None:
    """Match every pair of dictionaries with every program, print the table, write the JSON."""
    parser = benchmark_parser(__doc__ or "")
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--saes", type=Path, nargs=2, help="weights of two autoencoders")
    parser.add_argument("--without", nargs="*", default=[], help="programs that are left out")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.saes:
        first, second = (unit_rows(read_sae(path).w_dec) for path in arguments.saes)
        pairs = {"given": (first, second)}
    else:
        latents = 1024 if arguments.quick else arguments.latents
        pairs = {kind: synthetic(kind, latents, arguments.width) for kind in KINDS}
    rows = [
        measured(kind, program, *pair)
        for kind, pair in pairs.items()
        for program in MATCHERS
        if program not in arguments.without
    ]
    shape = " x ".join(str(len(side)) for side in next(iter(pairs.values())))
    table = Table(box=box.SIMPLE, title=f"{shape} latents, {device_of(arguments)}")
    headings = ("dictionaries", "program", "seconds", "CPU seconds", "peak MB", "sum of cosines")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in headings[:2] else "right")
    for row in rows:
        numbers = (f"{row.seconds:.2f}", f"{row.cpu_seconds:.2f}", f"{row.peak_megabytes:.0f}")
        table.add_row(row.dictionaries, row.program, *numbers, f"{row.total:.6f}")
    Console(width=110).print(table)
    write_report(arguments, rows=[asdict(row) for row in rows])


KINDS = ("linked", "unrelated")


def synthetic(kind: str, latents: int, width: int) -> tuple[Tensor, Tensor]:
    """Two dictionaries of unit rows [latent, width]."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(latents, width, generator=generator) for _ in range(2))
    if kind == "linked":
        noise = 2 * torch.rand(latents, 1, generator=generator).square()
        second = first[torch.randperm(latents, generator=generator)] + noise * second
    return unit_rows(first), unit_rows(second)


def measured(kind: str, program: str, first: Tensor, second: Tensor) -> Row:
    """Match once; the smaller dictionary is the first."""
    if len(first) > len(second):
        first, second = second, first
    with peak_memory(torch.device("cpu")) as peak:
        start, cpu_start = time.perf_counter(), time.process_time()
        columns = MATCHERS[program](first, second)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    pairs = zip(first.double().split(CHUNK), torch.from_numpy(columns).split(CHUNK), strict=True)
    total = sum(float((rows * second[own].double()).sum()) for rows, own in pairs)
    return Row(kind, program, seconds, cpu_seconds, peak[0], total)


def ours(first: Tensor, second: Tensor) -> Columns:
    """The library's matching."""
    return match(first, second).second


def by_scipy(first: Tensor, second: Tensor) -> Columns:
    """Partners by scipy's assignment in float64."""
    from scipy.optimize import linear_sum_assignment

    columns: Columns = linear_sum_assignment(negative_cosines(first, second, np.float64))[1]
    return columns


def by_lapjv(first: Tensor, second: Tensor) -> Columns:
    """Partners by lapjv's assignment in float32, of a matrix that is made square by zeros."""
    from lapjv import lapjv

    costs = negative_cosines(first, second, np.float32, rows=len(second))
    columns: Columns = lapjv(costs, force_doubles=False)[0][: len(first)]
    return columns


def negative_cosines(
    first: Tensor, second: Tensor, dtype: type[np.floating], rows: int | None = None
) -> NDArray[np.floating]:
    """-cos of all pairs [row, column], with rows of zeros at the end where there are to be more."""
    costs = np.zeros((rows or len(first), len(second)), dtype=dtype)
    for start in range(0, len(first), CHUNK):
        chunk = first[start : start + CHUNK] @ second.t()
        costs[start : start + len(chunk)] = -chunk.numpy()
    return costs


MATCHERS: dict[str, Matcher] = {"glossogenesis": ours, "scipy": by_scipy}
if find_spec("lapjv"):
    MATCHERS["lapjv"] = by_lapjv

if __name__ == "__main__":
    main()
