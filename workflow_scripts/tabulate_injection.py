"""Tabulate injections over all target checkpoints: perplexity, translation, and the controls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.injection.tables import INJECTION_SCHEMA, perplexity_rows, translation_rows
from glossogenesis.progress import progress
from glossogenesis.storage.provenance import facts_of_left_out, reason_left_out
from glossogenesis.storage.tables import read_provenance, read_table, write_csv, write_table
from glossogenesis.study.setups import Agreement, checkpoint_facts, chosen_rows, with_checkpoint
from glossogenesis.study.sheet import Checkpoint, read_sheet
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program

SHARED_INPUTS = ("source", "corpus", "sae", "statistics", "prompts")
"""Inputs that all targets must have in common."""

READERS = {"perplexity": perplexity_rows, "translation": translation_rows}


def main() -> None:
    """Read the targets in their order, sum up the controls, stack and write."""
    arguments = program_arguments(
        __doc__,
        sheet={"help": "the checkpoint sheet"},
        results={"help": "folder of injection/MODEL/CHECKPOINT/perplexity.parquet"},
        output={"help": "folder of the table"},
    )
    settings = arguments.settings
    targets = chosen_rows(read_sheet(arguments.sheet), {settings["model"]: settings["targets"]})
    table, inputs, reasons = tabulate(targets, settings, arguments.results)
    target = arguments.output / "features_injection.parquet"
    provenance = provenance_of(
        arguments,
        "features_injection",
        inputs,
        model=settings["model"],
        facts=facts_of_left_out(reasons),
    )
    write_table(target, table, provenance)
    write_csv(target.with_suffix(".csv"), table)


def tabulate(
    targets: Sequence[Checkpoint], settings: Mapping[str, Any], results: Path
) -> tuple[pl.DataFrame, dict[str, Path], dict[str, str]]:
    """The table, the files that it was made from by their paths below `results`, what is left out.

    Targets that were left out have no rows.

    Raises:
        StudyError: a file is missing or damaged, or was made in another way than that of another
            target.

    """
    agreement = Agreement(SHARED_INPUTS)
    parts = [pl.DataFrame(schema=INJECTION_SCHEMA)]
    inputs = {}
    reasons = {}
    for row in progress(targets, label="tabulate", unit="checkpoint"):
        for kind, rows_of in READERS.items():
            path = results / "injection" / row.model / row.checkpoint / f"{kind}.parquet"
            inputs[path.relative_to(results).as_posix()] = path
            origin = read_provenance(path)
            if reason := reason_left_out(origin):
                reasons[f"{row.model}/{row.checkpoint}"] = reason
                continue
            agreement.check(kind, path, origin)
            rows = with_checkpoint(rows_of(read_table(path), path), checkpoint_facts(row))
            parts.append(
                rows.with_columns(
                    sae=pl.lit(settings["sae"]), source=pl.lit(settings["source"])
                ).select(INJECTION_SCHEMA.names())
            )
    return pl.concat(parts), inputs, reasons


if __name__ == "__main__":
    run_program(main)
