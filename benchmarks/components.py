"""Speed and memory of the fast path of component patching against reference mode, in one run.

A random-weight Llama classifier stands in for a real model: weights do not change the work. Both
modes patch every attention and MLP output of the same pairs of random posts; no post occurs twice.
A pair takes reference mode 2L + 2 passes (L layers; one clean, one corrupted, one a component), and
the fast path two, which is the limit of what can be gained, but for what the fast path also saves
in these two: the last block runs on last tokens alone.

"Operations" are layer-tokens: tokens that pass through a block's MLP, counted while each mode runs.
Times are medians; memory is the peak above what was in use before.

    python benchmarks/components.py --threads 2 --json results/benchmark.json
    python benchmarks/components.py --quick
    python benchmarks/components.py --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

import torch
from transformers import LlamaForSequenceClassification

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.robustness.components.effects import (
    ComponentEffects,
    PatchedPairs,
    PatchingRule,
    component_effects,
)
from glossogenesis.robustness.components.rows import Mode
from measurement import (
    Measurement,
    device_of,
    measure_both,
    random_llama_config,
    two_modes_parser,
    write_report,
)

N_LABELS = 12


@dataclass(frozen=True)
class Comparison:
    """Both modes on one model and length of posts; one row of the table."""

    n_layers: int
    n_tokens: int
    fast: Measurement
    reference: Measurement
    largest_difference: float
    """Of the effects."""

    @property
    def figures(self) -> dict[str, float]:
        """Reference over fast in seconds, CPU seconds and operations, and the limit."""
        return {
            "faster": self.reference.seconds / self.fast.seconds,
            "cpu_time_less": self.reference.cpu_seconds / self.fast.cpu_seconds,
            "operations_fewer": self.reference.layer_tokens / self.fast.layer_tokens,
            "limit": (2 * self.n_layers + 2) / 2,
        }


def main() -> None:
    """Run every combination, print the table, write the JSON."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.pairs} pairs of distinct posts, hidden {arguments.hidden}, "
        f"{arguments.dtype} on {device_of(arguments)}\n"
    )
    print(*HEADER, sep="\n")
    comparisons = []
    for n_layers in arguments.layers:
        anatomy = random_classifier(arguments, n_layers)
        warm_up(anatomy, arguments)
        for n_tokens in arguments.tokens:
            comparisons.append(compare(anatomy, arguments, n_tokens))
            print(line_of(comparisons[-1]), flush=True)
    write_report(arguments, comparisons=[asdict(row) | row.figures for row in comparisons])


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` makes everything small."""
    parser = two_modes_parser(str(__doc__))
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 256, 512], help="of a post")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=4, help="posts in a forward pass")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.layers, arguments.tokens, arguments.hidden = [4], [24], 64
        arguments.pairs, arguments.vocabulary = 2, 300
    return arguments


def random_classifier(arguments: argparse.Namespace, n_layers: int) -> Anatomy:
    """A Llama classifier with random weights."""
    torch.manual_seed(0)
    config = random_llama_config(
        arguments,
        n_layers,
        max_position_embeddings=max(arguments.tokens),
        num_labels=N_LABELS,
        pad_token_id=0,
    )
    model = LlamaForSequenceClassification(config).to(
        arguments.device, getattr(torch, arguments.dtype)
    )
    return Anatomy.of(model.eval().requires_grad_(False))


def compare(anatomy: Anatomy, arguments: argparse.Namespace, n_tokens: int) -> Comparison:
    """Measure both modes on posts of one length."""
    generator = torch.Generator().manual_seed(0)
    shape = (2 * arguments.pairs, n_tokens)
    posts = torch.randint(3, arguments.vocabulary, shape, generator=generator).tolist()
    numbers = torch.arange(2 * arguments.pairs)
    pairs = PatchedPairs(
        clean=numbers[: arguments.pairs],
        corrupted=numbers[arguments.pairs :],
        labels=torch.arange(arguments.pairs) % N_LABELS,
    )

    def once(mode: Mode) -> ComponentEffects:
        rule = PatchingRule(mode=mode, outputs="added", batch_size=arguments.batch_size)
        return component_effects(anatomy, posts, pairs, rule)

    effects, measured = measure_both(anatomy, once, arguments)
    fast, reference = effects["fast"], effects["reference"]
    return Comparison(
        n_layers=anatomy.n_layers,
        n_tokens=n_tokens,
        fast=measured["fast"],
        reference=measured["reference"],
        largest_difference=float((fast.effect - reference.effect).abs().max()),
    )


def warm_up(anatomy: Anatomy, arguments: argparse.Namespace) -> None:
    """One short pair in both modes, so that nothing is loaded or compiled while measuring."""
    pair = PatchedPairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    for mode in ("fast", "reference"):
        rule = PatchingRule(mode=mode, outputs="added", batch_size=arguments.batch_size)
        component_effects(anatomy, [[3, 4, 5], [4, 5, 6]], pair, rule)


HEADER = (
    "| layers | tokens | reference s | fast s | faster | CPU time less | operations fewer | limit "
    "| reference MB | fast MB | max Δ effect |",
    "|" + "---:|" * 11,
)


def line_of(row: Comparison) -> str:
    """One row of the Markdown table."""
    figures = row.figures
    cells = (
        str(row.n_layers),
        str(row.n_tokens),
        f"{row.reference.seconds:.2f}",
        f"{row.fast.seconds:.2f}",
        f"{figures['faster']:.1f}x",
        f"{figures['cpu_time_less']:.1f}x",
        f"{figures['operations_fewer']:.1f}x",
        f"{figures['limit']:.0f}x",
        f"{row.reference.peak_megabytes:.0f}",
        f"{row.fast.peak_megabytes:.0f}",
        f"{row.largest_difference:.1e}",
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
