"""Seconds, memory and operations of a piece of work on a model."""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy

Result = TypeVar("Result")


@dataclass(frozen=True)
class Measurement:
    """One engine on one task."""

    seconds: float
    cpu_seconds: float
    """Of all threads; unlike `seconds`, hardly moved by what else runs on the machine."""
    peak_megabytes: float
    layer_tokens: int


def measure(
    anatomy: Anatomy, once: Callable[[], Result], repeats: int
) -> tuple[Result, Measurement]:
    """Median seconds and peak memory of some repeats, and layer-tokens of one of them."""
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    peaks: list[float] = []
    counts: list[int] = []
    for _ in range(repeats):
        with counted_tokens(anatomy) as count, peak_memory(anatomy.device) as peak:
            start, cpu_start = time.perf_counter(), time.process_time()
            run = once()
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
        peaks.append(peak[0])
        counts.append(count[0])
    return run, Measurement(
        seconds=statistics.median(seconds),
        cpu_seconds=statistics.median(cpu_seconds),
        peak_megabytes=max(peaks),
        layer_tokens=counts[0],
    )


@contextmanager
def counted_tokens(anatomy: Anatomy) -> Iterator[list[int]]:
    """Counts the tokens that pass through the blocks, in the yielded list's only entry."""
    count = [0]

    def add(module: Any, inputs: Any, output: Tensor) -> None:
        count[0] += output.shape[:-1].numel()

    handles = [module.register_forward_hook(add) for module in anatomy.mlp_outputs]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float]]:
    """Peak of the megabytes in use above those at the start, in the yielded list's only entry."""
    peak = [0.0]
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak[0] = (torch.cuda.max_memory_allocated() - before) / 1e6
        return
    return_freed_memory()
    before_rss = resident_megabytes()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident_megabytes() - before_rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def return_freed_memory() -> None:
    """Hand memory that was freed back to the system, or later work would seem to need none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_megabytes() -> float:
    """Memory of this process that is in RAM (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
