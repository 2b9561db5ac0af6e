"""Tabulate the concepts study: accuracy, outcomes and first-token probabilities over all checkpoints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.errors import StudyError, run_program
from glossogenesis.patching.tables import (
    CHECKPOINT_FACTS,
    PATCHING_SCHEMA,
    accuracy_table,
    check_rows,
    outcomes_table,
    probability_table,
    with_checkpoint,
)
from glossogenesis.progress import progress
from glossogenesis.provenance import Provenance, code_digest, file_digest, settings_digest
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.tables import read_provenance, read_table, write_csv, write_table

TABLES = ("accuracy", "outcomes", "probability")


def main() -> None:
    """Read the patching tables in the order of the sheet, tabulate each, stack and write."""
    arguments = parse_arguments()
    settings: dict[str, Any] = json.loads(arguments.settings)
    origins = {path: read_provenance(path) for path in arguments.inputs}
    check_agreement(origins)
    rows_of_sheet = pl.DataFrame(settings["checkpoints"], schema=CHECKPOINT_FACTS)
    ordered = in_sheet_order(origins, rows_of_sheet)
    tables = tabulate(ordered, rows_of_sheet, settings)
    outputs = {name: getattr(arguments, f"output_{name}") for name in TABLES}
    for name, table in tables.items():
        provenance = Provenance(
            kind=f"concepts_{name}",
            study=settings["study"],
            settings=settings,
            inputs={
                f"{origins[path].model}/{origins[path].checkpoint}": file_digest(path)
                for path in ordered
            },
            code=code_digest("tabulate_concepts"),
            seed=settings["seed"],
        )
        write_table(outputs[name], table, provenance)
        write_csv(outputs[name].with_suffix(".csv"), table)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings",
        required=True,
        help="JSON: study, checkpoints (rows of the sheet: model, checkpoint, step, tokens, phase), "
        "interval (wilson or bootstrap), resamples, seed",
    )
    parser.add_argument("--inputs", nargs="+", type=Path, required=True, help="patching.parquet ...")
    for name in TABLES:
        parser.add_argument(
            f"--output-{name}",
            type=Path,
            required=True,
            help=f"Parquet table of {name}; a CSV is written beside it",
        )
    return parser.parse_args()


def check_agreement(origins: Mapping[Path, Provenance]) -> None:
    """Refuse files of one model that were made with other settings, code or prompts.

    Raises:
        StudyError: names the first file that disagrees with the first of its model.
    """
    first: dict[str | None, Path] = {}
    for path, origin in origins.items():
        reference = first.setdefault(origin.model, path)
        differing = [
            name
            for name, mine in _identity(origin).items()
            if mine != _identity(origins[reference])[name]
        ]
        if differing:
            raise StudyError(
                f"{path}: made with other {' and '.join(differing)} than {reference}; "
                "remove the outdated one and run the workflow again"
            )


def _identity(origin: Provenance) -> dict[str, object]:
    """What must agree over the files of a model."""
    return {
        "study": origin.study,
        "settings": settings_digest(origin.settings),
        "code": origin.code,
        "prompts": sorted(value for name, value in origin.inputs.items() if "prompts" in name),
    }


def in_sheet_order(origins: Mapping[Path, Provenance], sheet: pl.DataFrame) -> list[Path]:
    """Order the files as their checkpoints stand in the sheet; one file for every row.

    Raises:
        StudyError: a file of no row, two files of one row, or a row without a file.
    """
    paths: dict[tuple[str, str], Path] = {}
    wanted = list(sheet.select("model", "checkpoint").iter_rows())
    for path, origin in origins.items():
        key = (str(origin.model), str(origin.checkpoint))
        if key not in wanted:
            raise StudyError(
                f"{path}: model {key[0]!r}, checkpoint {key[1]!r} is not in the sheet; "
                "add its row or leave the file out"
            )
        if key in paths:
            raise StudyError(f"{path}: same checkpoint as {paths[key]}; leave one of them out")
        paths[key] = path
    for model, checkpoint in wanted:
        if (model, checkpoint) not in paths:
            raise StudyError(
                f"model {model!r}, checkpoint {checkpoint!r} of the sheet has no patching.parquet "
                "among --inputs; run the workflow for it"
            )
    return [paths[key] for key in wanted]


def tabulate(
    ordered: Sequence[Path], sheet: pl.DataFrame, settings: Mapping[str, Any]
) -> dict[str, pl.DataFrame]:
    """Tabulate file by file, so that memory holds the rows of one checkpoint at a time."""
    bootstrap = Bootstrap(resamples=settings["resamples"], seed=settings["seed"])
    interval = settings["interval"]
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
    bar = progress(list(enumerate(ordered)), label="tabulate", unit="checkpoint")
    for number, path in bar:
        found = read_table(path)
        check_rows(found, str(path))
        rows = with_checkpoint(found.select(PATCHING_SCHEMA.names()), sheet[number])
        parts["accuracy"].append(accuracy_table(rows, interval=interval, bootstrap=bootstrap))
        parts["outcomes"].append(outcomes_table(rows, interval=interval, bootstrap=bootstrap))
        parts["probability"].append(probability_table(rows, bootstrap=bootstrap))
    return {name: pl.concat(tables) for name, tables in parts.items()}


if __name__ == "__main__":
    run_program(main)
