"""Match the features of a checkpoint with those of the checkpoint before it.

Several layers are matched one after the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from glossogenesis.features.tracking import MATCHES_SCHEMA, Dictionary, track_features
from glossogenesis.sae.files import read_sae
from glossogenesis.storage.tables import read_provenance, read_table, write_table
from glossogenesis.workflow.left_out import left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write which features of each layer were kept, were born and died between two checkpoints."""
    arguments = program_arguments(
        __doc__,
        saes={"nargs": "+", "help": "weights of the checkpoint's autoencoders, layer by layer"},
        statistics={"nargs": "+", "help": "statistics of their features"},
        earlier_saes={"nargs": "+", "help": "the same of the checkpoint before"},
        earlier_statistics={"nargs": "+"},
        output={"nargs": "+", "help": "a table for each layer"},
    )
    layers = zip(
        arguments.saes,
        arguments.statistics,
        arguments.earlier_saes,
        arguments.earlier_statistics,
        arguments.output,
        strict=True,
    )
    for sae, statistics, earlier_sae, earlier_statistics, output in layers:
        inputs = {
            "sae": sae,
            "statistics": statistics,
            "earlier_sae": earlier_sae,
            "earlier_statistics": earlier_statistics,
        }
        match(arguments, inputs, output)


def match(arguments: argparse.Namespace, inputs: dict[str, Path], output: Path) -> None:
    """Write the matches of one layer; none where either checkpoint was left out."""
    if empty := left_out(arguments, "matches", inputs):
        write_table(output, MATCHES_SCHEMA.to_frame(), empty)
        return
    tracked = track_features(
        _dictionary(inputs["sae"], inputs["statistics"]),
        _dictionary(inputs["earlier_sae"], inputs["earlier_statistics"]),
        arguments.settings["minimum_cosine"],
    )
    origin = read_provenance(inputs["statistics"])
    earlier = read_provenance(inputs["earlier_statistics"])
    provenance = provenance_of(
        arguments,
        "matches",
        inputs,
        **origin.origin,
        facts={"earlier_checkpoint": earlier.checkpoint, **tracked.facts},
    )
    write_table(output, tracked.matches, provenance)


def _dictionary(sae: Path, statistics: Path) -> Dictionary:
    return Dictionary.of(read_sae(sae).w_dec, read_table(statistics), statistics)


if __name__ == "__main__":
    run_program(main)
