"""Tabulate which features were kept, born or died between checkpoints, and their labels."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.features.tables import SIMILARITIES, TRACKING_SCHEMA, tracking_counts
from glossogenesis.progress import progress
from glossogenesis.storage.provenance import Provenance, facts_of_left_out, reason_left_out
from glossogenesis.storage.tables import read_provenance, read_table, write_csv, write_table
from glossogenesis.study.setups import Agreement, Setup, chosen_rows, setups, with_setup
from glossogenesis.study.sheet import read_sheet
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Read the matches of every checkpoint but the first of a model, count, stack and write."""
    arguments = program_arguments(
        __doc__,
        sheet={"help": "the checkpoint sheet"},
        results={"help": "folder of tracking/MODEL/CHECKPOINT/layer_N/SAE/matches.parquet"},
        output={"help": "folder of the table"},
    )
    settings = arguments.settings
    later = {model: names[1:] for model, names in settings["checkpoints"].items()}
    earlier = {
        (model, name): before
        for model, names in settings["checkpoints"].items()
        for before, name in pairwise(names)
    }
    rows = chosen_rows(read_sheet(arguments.sheet), later)
    wanted = list(setups(rows, settings["layers"], settings["saes"]))
    folder = arguments.results / "tracking"
    paths = [folder / setup.folder / "matches.parquet" for setup in wanted]
    table, reasons = tabulate(wanted, paths, earlier)
    inputs = {path.relative_to(arguments.results).as_posix(): path for path in paths}
    target = arguments.output / "features_tracking.parquet"
    facts = facts_of_left_out(reasons)
    write_table(target, table, provenance_of(arguments, "features_tracking", inputs, facts=facts))
    write_csv(target.with_suffix(".csv"), table)


def tabulate(
    wanted: Sequence[Setup], paths: Sequence[Path], earlier: Mapping[tuple[str, str], str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Count the events of each setup, file by file; say why of each setup without matches.

    `earlier` gives the checkpoint before each (model, checkpoint).

    Raises:
        StudyError: a file is missing or damaged, or was made in another way than another of its
            model.

    """
    agreement = Agreement()
    reasons = {}
    parts = [pl.DataFrame(schema=TRACKING_SCHEMA)]
    bar = progress(
        zip(wanted, paths, strict=True), total=len(paths), label="tabulate", unit="setup"
    )
    for setup, path in bar:
        origin = read_provenance(path)
        if reason := reason_left_out(origin):
            reasons[setup.folder.as_posix()] = reason
            continue
        before = earlier[setup.row.model, setup.row.checkpoint]
        check_earlier(path, origin, before)
        agreement.check(setup.row.model, path, origin)
        counts = tracking_counts(read_table(path), path).with_columns(
            pl.lit(before).alias("earlier_checkpoint"),
            *(pl.lit(origin.facts[name], pl.Float64).alias(name) for name in SIMILARITIES),
        )
        parts.append(with_setup(counts, setup).select(TRACKING_SCHEMA.names()))
    return pl.concat(parts), reasons


def check_earlier(path: Path, origin: Provenance, expected: str) -> None:
    """Refuse matches with another checkpoint than the one before."""
    if origin.facts["earlier_checkpoint"] != expected:
        raise StudyError(
            f"{path}: matched with checkpoint {origin.facts['earlier_checkpoint']!r}, but "
            f"{expected!r} comes before; remove the file and run the workflow again"
        )


if __name__ == "__main__":
    run_program(main)
