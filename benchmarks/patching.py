"""Speed and memory of the fast patching engine against the reference engine, in one run.

A random-weight Llama stands in for a real model: weights do not change the work. Both engines are
given the same source states and answer the same request: 4 settings, every start layer,

  (a) the probability of the first answer token,
  (b) that, and 5 new tokens from every start layer.

"Operations" are layer-tokens: tokens that pass through a block's MLP, counted while each engine
runs. Times are medians; memory is the peak above what was in use before.

    python benchmarks/patching.py --threads 2 --json results/benchmark.json
    python benchmarks/patching.py --quick
    python benchmarks/patching.py --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from measurement import Measurement, measure
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import residual_at
from glossogenesis.patching.engine import PatchedRun, PatchPrompt, PatchRequest
from glossogenesis.patching.run import Mode, run_patching

N_SETTINGS = 4
N_TOKENS_OF_INTEREST = 16


@dataclass(frozen=True)
class Comparison:
    """Both engines on one task; one row of the table."""

    task: str
    n_layers: int
    n_tokens: int
    fast: Measurement
    reference: Measurement
    largest_difference: float
    """Of the log-probabilities."""
    same_tokens: float
    """Share of the generated tokens that are equal; 1 where none is generated."""

    @property
    def speedup(self) -> float:
        """Reference seconds over fast seconds."""
        return self.reference.seconds / self.fast.seconds

    @property
    def cpu_speedup(self) -> float:
        """Reference CPU seconds over fast CPU seconds."""
        return self.reference.cpu_seconds / self.fast.cpu_seconds

    @property
    def operation_ratio(self) -> float:
        """Reference layer-tokens over fast layer-tokens."""
        return self.reference.layer_tokens / self.fast.layer_tokens


def main() -> None:
    """Run every combination, print the table, write the JSON."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    comparisons = [
        compare(arguments, n_layers, n_tokens, task)
        for n_layers in arguments.layers
        for n_tokens in arguments.tokens
        for task in arguments.tasks
    ]
    Console(width=140).print(table_of(comparisons, arguments))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report_of(comparisons, arguments), indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` makes everything small."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 24])
    parser.add_argument("--tokens", type=int, nargs="+", default=[48, 95], help="prompt lengths")
    parser.add_argument("--suffix", type=int, default=5, help="tokens after the patched one")
    parser.add_argument("--tasks", nargs="+", choices=("a", "b"), default=["a", "b"])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--batch-size", type=int, default=32, help="prompts in a forward pass")
    parser.add_argument("--repeats", type=int, default=3, help="of the fast engine")
    parser.add_argument("--reference-repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's own")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.layers, arguments.tokens, arguments.hidden = [4], [24], 64
        arguments.prompts, arguments.vocabulary = 3, 300
    return arguments


def compare(arguments: argparse.Namespace, n_layers: int, n_tokens: int, task: str) -> Comparison:
    """Measure both engines on one task."""
    anatomy = random_llama(arguments, n_layers)
    request = random_request(anatomy, arguments, n_tokens, generate=task == "b")
    runs: dict[Mode, PatchedRun] = {}
    measured: dict[Mode, Measurement] = {}
    modes: tuple[tuple[Mode, int], ...] = (
        ("fast", arguments.repeats),
        ("reference", arguments.reference_repeats),
    )
    warm_up(anatomy, request)
    for mode, repeats in modes:

        def once(mode: Mode = mode) -> PatchedRun:
            return run_patching(anatomy, request, batch_size=arguments.batch_size, mode=mode)

        runs[mode], measured[mode] = measure(anatomy, once, repeats)
    fast, reference = runs["fast"], runs["reference"]
    difference = (fast.log_probabilities - reference.log_probabilities).abs().max()
    return Comparison(
        task=task,
        n_layers=n_layers,
        n_tokens=n_tokens,
        fast=measured["fast"],
        reference=measured["reference"],
        largest_difference=float(difference),
        same_tokens=float((fast.generated == reference.generated).float().mean())
        if fast.generated.numel()
        else 1.0,
    )


def random_llama(arguments: argparse.Namespace, n_layers: int) -> Anatomy:
    """A Llama with random weights, heads of 64 and a gated MLP of 11/4 of the width."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.hidden * 11 // 4,
        num_hidden_layers=n_layers,
        num_attention_heads=max(1, arguments.hidden // 64),
        max_position_embeddings=256,
    )
    model = LlamaForCausalLM(config).to(arguments.device, getattr(torch, arguments.dtype))
    return Anatomy.of(model.eval().requires_grad_(False))


def random_request(
    anatomy: Anatomy, arguments: argparse.Namespace, n_tokens: int, *, generate: bool
) -> PatchRequest:
    """Random prompts, patched with the states of other random prompts, from every start layer."""
    n_prompts = arguments.prompts
    generator = torch.Generator().manual_seed(0)

    def random_ids(*shape: int) -> Tensor:
        return torch.randint(3, arguments.vocabulary, shape, generator=generator)

    position = n_tokens - 1 - arguments.suffix
    sources = residual_at(
        anatomy,
        random_ids(N_SETTINGS * n_prompts, n_tokens).tolist(),
        [position] * (N_SETTINGS * n_prompts),
        batch_size=arguments.batch_size,
    )
    every_layer = tuple(range(anatomy.n_layers))
    return PatchRequest(
        prompts=tuple(
            PatchPrompt(tuple(ids), position) for ids in random_ids(n_prompts, n_tokens).tolist()
        ),
        patches=sources.unflatten(0, (N_SETTINGS, n_prompts)),
        start_layers=every_layer,
        token_ids_of_interest=random_ids(n_prompts, N_TOKENS_OF_INTEREST),
        generate_at=every_layer if generate else (),
        max_new_tokens=5,
    )


def warm_up(anatomy: Anatomy, request: PatchRequest) -> None:
    """One prompt through both engines, so that nothing is loaded or compiled while measuring."""
    small = PatchRequest(
        prompts=request.prompts[:1],
        patches=request.patches[:1, :1],
        start_layers=request.start_layers[:2],
        token_ids_of_interest=request.token_ids_of_interest[:1],
        generate_at=request.generate_at[:2],
    )
    for mode in ("fast", "reference"):
        run_patching(anatomy, small, batch_size=4, mode=mode)


def table_of(comparisons: list[Comparison], arguments: argparse.Namespace) -> Table:
    """The measurements as a table."""
    table = Table(
        box=box.SIMPLE,
        title=f"{arguments.prompts} prompts, {N_SETTINGS} settings, every start layer, hidden "
        f"{arguments.hidden}, {arguments.dtype} on {machine(arguments)['device']}",
    )
    for heading in (
        "task",
        "layers",
        "tokens",
        "reference s",
        "fast s",
        "faster",
        "CPU time less",
        "operations fewer",
        "reference MB",
        "fast MB",
        "max |Δ log p|",
        "same tokens",
    ):
        table.add_column(heading, justify="right")
    for row in comparisons:
        table.add_row(
            row.task,
            str(row.n_layers),
            str(row.n_tokens),
            f"{row.reference.seconds:.2f}",
            f"{row.fast.seconds:.2f}",
            f"{row.speedup:.1f}x",
            f"{row.cpu_speedup:.1f}x",
            f"{row.operation_ratio:.1f}x",
            f"{row.reference.peak_megabytes:.0f}",
            f"{row.fast.peak_megabytes:.0f}",
            f"{row.largest_difference:.1e}",
            f"{row.same_tokens:.4f}",
        )
    return table


def report_of(comparisons: list[Comparison], arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked and measured, for JSON."""
    return {
        "arguments": {key: value for key, value in vars(arguments).items() if key != "json"},
        "machine": machine(arguments),
        "comparisons": [
            asdict(row)
            | {
                "speedup": row.speedup,
                "cpu_speedup": row.cpu_speedup,
                "operation_ratio": row.operation_ratio,
            }
            for row in comparisons
        ],
    }


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the measurements depend on."""
    gpu = arguments.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} CPU threads",
        "platform": platform.platform(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    main()
