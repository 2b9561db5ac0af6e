"""What benchmarks share: their command line, seconds, memory and operations, and the report."""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import LlamaConfig

from glossogenesis.concepts.translation import Mode
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


def benchmark_parser(description: str) -> argparse.ArgumentParser:
    """A command line with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's own")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    return parser


def two_modes_parser(description: str) -> argparse.ArgumentParser:
    """`benchmark_parser` for the fast and the reference mode on random Llamas."""
    parser = benchmark_parser(description)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 24])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=3, help="of the fast mode")
    parser.add_argument("--reference-repeats", type=int, default=1)
    return parser


def random_llama_config(arguments: argparse.Namespace, n_layers: int, **more: Any) -> LlamaConfig:
    """A Llama with heads of 64 and a gated MLP of 11/4 of the width."""
    return LlamaConfig(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.hidden * 11 // 4,
        num_hidden_layers=n_layers,
        num_attention_heads=max(1, arguments.hidden // 64),
        **more,
    )


def measure_both(
    anatomy: Anatomy, once: Callable[[Mode], Result], arguments: argparse.Namespace
) -> tuple[dict[Mode, Result], dict[Mode, Measurement]]:
    """Results and measurements of the fast and the reference mode, in this order."""
    results: dict[Mode, Result] = {}
    measured: dict[Mode, Measurement] = {}
    modes: tuple[tuple[Mode, int], ...] = (
        ("fast", arguments.repeats),
        ("reference", arguments.reference_repeats),
    )
    for mode, repeats in modes:

        def once_in_mode(mode: Mode = mode) -> Result:
            return once(mode)

        results[mode], measured[mode] = measure(anatomy, once_in_mode, repeats)
    return results, measured


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


def device_of(arguments: argparse.Namespace) -> str:
    """What computes: the GPU's name, or the number of CPU threads."""
    gpu = arguments.device == "cuda"
    return torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} CPU threads"


def write_report(arguments: argparse.Namespace, **measured: Any) -> None:
    """Write what was asked and measured as JSON, if `--json` is given."""
    if arguments.json is None:
        return
    report = {
        "arguments": {key: value for key, value in vars(arguments).items() if key != "json"},
        "machine": {
            "device": device_of(arguments),
            "platform": platform.platform(),
            "torch": torch.__version__,
            "transformers": metadata.version("transformers"),
        },
        **measured,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2, default=str) + "\n")
