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
from dataclasses import asdict, dataclass

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaForCausalLM

from glossogenesis.concepts.request import PatchedRun, PatchPrompt, PatchRequest
from glossogenesis.concepts.translation import Mode, run_patching
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import residual_at
from measurement import (
    Measurement,
    device_of,
    measure_both,
    random_llama_config,
    two_modes_parser,
    write_report,
)

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
    def ratios(self) -> dict[str, float]:
        """Reference over fast in seconds, CPU seconds and layer-tokens."""
        return {
            "speedup": self.reference.seconds / self.fast.seconds,
            "cpu_speedup": self.reference.cpu_seconds / self.fast.cpu_seconds,
            "operation_ratio": self.reference.layer_tokens / self.fast.layer_tokens,
        }


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
    write_report(arguments, comparisons=[asdict(row) | row.ratios for row in comparisons])


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` makes everything small."""
    parser = two_modes_parser(str(__doc__))
    parser.add_argument("--tokens", type=int, nargs="+", default=[48, 95], help="prompt lengths")
    parser.add_argument("--suffix", type=int, default=5, help="tokens after the patched one")
    parser.add_argument("--tasks", nargs="+", choices=("a", "b"), default=["a", "b"])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32, help="prompts in a forward pass")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.layers, arguments.tokens, arguments.hidden = [4], [24], 64
        arguments.prompts, arguments.vocabulary = 3, 300
    return arguments


def compare(arguments: argparse.Namespace, n_layers: int, n_tokens: int, task: str) -> Comparison:
    """Measure both engines on one task."""
    anatomy = random_llama(arguments, n_layers)
    request = random_request(anatomy, arguments, n_tokens, generate=task == "b")
    warm_up(anatomy, request)

    def once(mode: Mode) -> PatchedRun:
        return run_patching(anatomy, request, batch_size=arguments.batch_size, mode=mode)

    runs, measured = measure_both(anatomy, once, arguments)
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
    """A Llama with random weights."""
    torch.manual_seed(0)
    config = random_llama_config(arguments, n_layers, max_position_embeddings=256)
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
        f"{arguments.hidden}, {arguments.dtype} on {device_of(arguments)}",
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
            *(f"{ratio:.1f}x" for ratio in row.ratios.values()),
            f"{row.reference.peak_megabytes:.0f}",
            f"{row.fast.peak_megabytes:.0f}",
            f"{row.largest_difference:.1e}",
            f"{row.same_tokens:.4f}",
        )
    return table


if __name__ == "__main__":
    main()
