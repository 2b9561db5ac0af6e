"""Match the features of a checkpoint with those of the checkpoint before it."""

from __future__ import annotations

from pathlib import Path

from glossogenesis.features.tracking import Dictionary, track_features
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.sae.files import read_sae
from glossogenesis.storage.tables import read_provenance, read_table, write_table


def main() -> None:
    """Write which features were kept, were born and died between two checkpoints."""
    arguments = program_arguments(
        __doc__,
        sae={"help": "weights of the checkpoint's autoencoder"},
        statistics={"help": "statistics of its features"},
        earlier_sae={"help": "the same of the checkpoint before"},
        earlier_statistics={},
        output={},
    )
    tracked = track_features(
        _dictionary(arguments.sae, arguments.statistics),
        _dictionary(arguments.earlier_sae, arguments.earlier_statistics),
        arguments.settings["minimum_cosine"],
    )
    origin = read_provenance(arguments.statistics)
    earlier = read_provenance(arguments.earlier_statistics)
    provenance = provenance_of(
        arguments,
        "matches",
        {
            "sae": arguments.sae,
            "statistics": arguments.statistics,
            "earlier_sae": arguments.earlier_sae,
            "earlier_statistics": arguments.earlier_statistics,
        },
        model=origin.model,
        checkpoint=origin.checkpoint,
        revision=origin.revision,
        layer=origin.layer,
        facts={"earlier_checkpoint": earlier.checkpoint, **tracked.facts},
    )
    write_table(arguments.output, tracked.matches, provenance)


def _dictionary(sae: Path, statistics: Path) -> Dictionary:
    return Dictionary.of(read_sae(sae).w_dec, read_table(statistics), statistics)


if __name__ == "__main__":
    run_program(main)
