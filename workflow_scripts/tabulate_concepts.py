"""Tabulate the concepts study over all checkpoints: shares, probabilities and comparisons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.concepts.comparisons import (
    ChosenLayers,
    choose_layers,
    comparison_table,
    rows_at_chosen,
    trainings_table,
)
from glossogenesis.concepts.scoring import PATCHING_SCHEMA, check_rows
from glossogenesis.concepts.tables import (
    accuracy_table,
    outcomes_table,
    pooled_table,
    probability_table,
)
from glossogenesis.exceptions import StudyError
from glossogenesis.progress import progress
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.provenance import (
    Provenance,
    facts_of_left_out,
    reason_left_out,
    settings_digest,
)
from glossogenesis.storage.tables import read_provenance, read_table, write_csv, write_table
from glossogenesis.study.setups import CHECKPOINT_FACTS, with_checkpoint
from glossogenesis.study.sheet import Checkpoint, read_sheet
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Read the patching tables in the order of the sheet, tabulate each, stack and write."""
    arguments = program_arguments(
        __doc__,
        sheet={"help": "the checkpoint sheet"},
        patching={"help": "folder of MODEL/CHECKPOINT/patching.parquet"},
        output={"help": "folder of the tables"},
    )
    models = arguments.settings["models"]
    rows = [row for row in read_sheet(arguments.sheet) if row.model in models]
    path_of = {
        row: arguments.patching / row.model / row.checkpoint / "patching.parquet" for row in rows
    }
    check_agreement(list(path_of.values()))
    reasons = {
        row: reason
        for row, path in path_of.items()
        if (reason := reason_left_out(read_provenance(path))) is not None
    }
    if len(reasons) == len(rows):
        raise StudyError(f"no checkpoint can be tabulated: {reasons[rows[0]]}")
    sheet = [row for row in rows if row not in reasons]
    paths = [path_of[row] for row in sheet]
    inputs = {str(path.relative_to(arguments.patching)): path for path in path_of.values()}
    facts = facts_of_left_out(
        {f"{row.model}/{row.checkpoint}": reason for row, reason in reasons.items()}
    )
    for name, table in tabulate(paths, sheet, arguments.settings).items():
        provenance = provenance_of(
            arguments,
            f"concepts_{name}",
            inputs,
            seed=arguments.settings["seed"],
            facts=facts,
        )
        target = arguments.output / f"concepts_{name}.parquet"
        write_table(target, table, provenance)
        write_csv(target.with_suffix(".csv"), table)


def check_agreement(paths: Sequence[Path]) -> None:
    """Refuse files of one model that were made with other settings, code or prompts.

    Raises:
        StudyError: names the first file that disagrees with the first of its model.

    """
    first: dict[str | None, tuple[Path, Mapping[str, object]]] = {}
    for path in paths:
        origin = read_provenance(path)
        mine = _identity(origin)
        reference, expected = first.setdefault(origin.model, (path, mine))
        differing = [name for name in mine if mine[name] != expected[name]]
        if differing:
            raise StudyError(
                f"{path}: made with other {' and '.join(differing)} than {reference}; "
                "remove the outdated one and run the workflow again"
            )


def _identity(origin: Provenance) -> dict[str, object]:
    """What must agree over the files of a model."""
    return {
        "settings": settings_digest(origin.settings),
        "code": origin.code,
        "prompts": sorted(value for name, value in origin.inputs.items() if "prompts" in name),
    }


def tabulate(
    paths: Sequence[Path], sheet: Sequence[Checkpoint], settings: Mapping[str, Any]
) -> dict[str, pl.DataFrame]:
    """Tabulate file by file, so that memory holds the rows of three checkpoints at most."""
    bootstrap = Bootstrap(resamples=settings["resamples"], seed=settings["seed"])
    pools = settings["pivot"], settings["unseen"]
    files = list(zip(paths, sheet, strict=True))
    training = {
        model: sorted((file for file in files if file[1].model == model), key=_step)
        for model in dict.fromkeys(row.model for row in sheet)
    }
    chosen = {
        model: choose_layers(_read(of_model[-1][0]), *pools, settings["seed"])
        for model, of_model in training.items()
    }
    parts: dict[str, list[pl.DataFrame]] = {}
    bar = progress(files, total=len(files), label="tabulate", unit="checkpoint")
    for rows in _rows(bar, chosen):
        for name, table in (
            ("accuracy", accuracy_table(rows)),
            ("outcomes", outcomes_table(rows)),
            ("pooled", pooled_table(rows, *pools)),
            ("probability", probability_table(rows, bootstrap=bootstrap)),
        ):
            parts.setdefault(name, []).append(table)
    parts["comparisons"] = [
        comparison_table(_rows(of_model, chosen), *pools) for of_model in training.values()
    ]
    tables = {name: pl.concat(of_all) for name, of_all in parts.items()}
    if settings["trainings"]:
        tables["trainings"] = trainings_table(tables["comparisons"], settings["trainings"])
    return tables


def _rows(
    files: Iterable[tuple[Path, Checkpoint]], chosen: Mapping[str, ChosenLayers | None]
) -> Iterator[pl.DataFrame]:
    """The rows of each file with its checkpoint, those at the chosen layers last."""
    for path, row in files:
        rows = with_checkpoint(_read(path), _facts(row))
        layers = chosen[row.model]
        yield rows if layers is None else pl.concat([rows, rows_at_chosen(rows, layers)])


def _read(path: Path) -> pl.DataFrame:
    found = read_table(path)
    check_rows(found, str(path))
    return found.select(PATCHING_SCHEMA.names())


def _step(file: tuple[Path, Checkpoint]) -> int:
    return file[1].step


def _facts(row: Checkpoint) -> pl.DataFrame:
    """One row of the sheet as a frame of the columns that tables show."""
    return pl.DataFrame(
        [row.model_dump(include=set(CHECKPOINT_FACTS))], schema=dict(CHECKPOINT_FACTS)
    )


if __name__ == "__main__":
    run_program(main)
