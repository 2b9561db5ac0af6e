"""Compare the dictionaries of autoencoders that differ in their seeds.

Every pair gets the mean greatest cosine both ways and the mean cosine of a one-to-one matching, and
the same of dictionaries that have nothing in common.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from glossogenesis.sae.files import check_origin, read_own_facts, read_sae, sae_folder
from glossogenesis.sae.tables import SEEDS_SCHEMA, Dictionary, compare_dictionaries
from glossogenesis.storage.tables import write_table
from glossogenesis.workflow.left_out import left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write one row per pair of autoencoders, one table per layer."""
    arguments = program_arguments(
        __doc__,
        saes={
            "nargs": "+",
            "help": "sae_weights.safetensors of each, layer by layer, with cfg.json beside it",
        },
        output={"nargs": "+", "help": "a seeds.parquet for each layer"},
    )
    seeds = len(arguments.saes) // len(arguments.output)
    for number, output in enumerate(arguments.output):
        compare(arguments, arguments.saes[number * seeds :][:seeds], output)


def compare(arguments: argparse.Namespace, saes: Sequence[Path], output: Path) -> None:
    """Write the table of one layer; empty where one of its autoencoders was left out."""
    inputs = {sae_folder(path).name: path for path in saes}
    if empty := left_out(arguments, "seeds", inputs):
        write_table(output, SEEDS_SCHEMA.to_frame(), empty)
        return
    origin = read_own_facts(saes[0])["provenance"]
    for path in saes:
        check_origin(path, origin["model"], origin["checkpoint"], origin["layer"])
    table: pl.DataFrame = compare_dictionaries([dictionary(path) for path in saes])
    provenance = provenance_of(
        arguments,
        "seeds",
        inputs,
        model=origin["model"],
        checkpoint=origin["checkpoint"],
        revision=origin["revision"],
        layer=origin["layer"],
    )
    write_table(output, table, provenance)


def dictionary(path: Path) -> Dictionary:
    """Read an autoencoder's directions, its name and its seed."""
    provenance = read_own_facts(path)["provenance"]
    return Dictionary(
        name=sae_folder(path).name, seed=provenance["seed"], directions=read_sae(path).w_dec
    )


if __name__ == "__main__":
    run_program(main)
