"""How many comparisons survive between runs of one checkpoint that differ in their seed alone.

All of them are false. Takes the finished runs of one model of a robustness study with many
`classifier.seeds` and `pairs.sets: [own]` (which pairs are common depends on both models), draws
disjoint groups of runs from them, and compares each two groups as if they were two models.

    snakemake --cores 2 --configfile config.yaml null.yaml \
        --config 'robustness={...}' tabulate_robustness
    python benchmarks/null_comparisons.py --results results --model demo --checkpoint step0450 \
        --layers 1 3 5 --seeds 0 1 2 3 4 5 6 7 8 9 10 11
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from glossogenesis.robustness.tables.comparisons import (
    COMPARISONS_SCHEMA,
    compare_runs,
    with_corrected,
)
from glossogenesis.robustness.tables.inputs import ComparedModel, Results, frame_of
from glossogenesis.statistics.intervals import Bootstrap


def main() -> None:
    """Print of every null comparison how many of its tests survive, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--checkpoint", default="step0450")
    parser.add_argument("--tokenizer", default="demo")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--saes", nargs="+", default=["l1"])
    parser.add_argument("--threshold", type=float, default=0.01)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 3], help="of each model")
    parser.add_argument("--comparisons", type=int, default=20)
    arguments = parser.parse_args()
    for runs in arguments.runs:
        shares = [_null_comparison(arguments, runs, draw) for draw in range(arguments.comparisons)]
        survived, below = np.mean(shares, axis=0)
        print(f"runs a model {runs}: mean {survived:.3f} survive, {below:.3f} have p < 0.05\n")


def _null_comparison(arguments: argparse.Namespace, runs: int, draw: int) -> tuple[float, float]:
    """Shares of the tests of two groups of runs that survive, and whose p is below 0.05."""
    drawn = np.random.default_rng([runs, draw]).permutation(arguments.seeds)[: 2 * runs].tolist()
    groups = [
        [
            ComparedModel(
                arguments.model,
                arguments.checkpoint,
                tuple(arguments.layers),
                arguments.tokenizer,
                seed,
            )
            for seed in group
        ]
        for group in (drawn[:runs], drawn[runs:])
    ]
    kinds = {sae: sae for sae in arguments.saes}
    rows = compare_runs(
        Results(arguments.results),
        *groups,
        kinds,
        arguments.threshold,
        Bootstrap(500, seed=draw),
        variants=True,
    )
    table = with_corrected(frame_of(rows, COMPARISONS_SCHEMA)).drop_nulls("p")
    survived = table.filter("survives")
    named = survived.select(pl.concat_str("measure", "detail", separator=" ", ignore_nulls=True))
    print(
        f"seeds {drawn[:runs]} and {drawn[runs:]}: {survived.height} of {table.height} survive",
        *named.to_series().head(3),
        sep="; ",
        flush=True,
    )
    return survived.height / table.height, float((table["p"] < 0.05).mean() or 0.0)


if __name__ == "__main__":
    main()
