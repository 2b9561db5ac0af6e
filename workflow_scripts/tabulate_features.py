"""Tabulate the features study over all checkpoints: languages, monosemanticity, quality, stages.

And how much of the grid of models, checkpoints and layers the study fills.

Reads of every setup `statistics.parquet`, `sensitivity.parquet` and `quality.json`, and where the
settings say so, what splicing does to the model and how seeds agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.features.quality_tables import (
    joined_quality,
    quality_rows,
    recovery_rows,
    seed_row,
)
from glossogenesis.features.stages import matched_curves, ranked_counts, stages_table
from glossogenesis.features.tables import (
    label_counts,
    languages_table,
    monosemanticity_histogram,
    monosemanticity_table,
    sensitivity_rows,
)
from glossogenesis.progress import progress
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.files import read_json
from glossogenesis.storage.provenance import Provenance, facts_of_left_out, reason_left_out
from glossogenesis.storage.tables import read_provenance, read_table, write_csv, write_table
from glossogenesis.study.setups import (
    Agreement,
    Setup,
    chosen_rows,
    grid_table,
    setups,
    with_depth,
    with_setup,
)
from glossogenesis.study.sheet import Checkpoint, read_sheet
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program

SHARED_INPUTS = ("corpus", "embedding")
"""Inputs that the features of one model must have in common."""


@dataclass
class Parts:
    """Small frames of every setup, in order, and the files they come from."""

    results: Path
    labels: list[pl.DataFrame] = field(default_factory=list)
    ranked: list[pl.DataFrame] = field(default_factory=list)
    histograms: list[pl.DataFrame] = field(default_factory=list)
    sensitivity: list[pl.DataFrame] = field(default_factory=list)
    quality: list[pl.DataFrame] = field(default_factory=list)
    inputs: dict[str, Path] = field(default_factory=dict)
    agreement: Agreement = field(default_factory=lambda: Agreement(SHARED_INPUTS))
    filled: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    """Checkpoints and layers that have features, by model."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why a checkpoint or setup could not be measured, by its folder."""

    def accept(self, path: Path, origin: Provenance, group: tuple[str, ...]) -> bool:
        """Record a file as an input, and tell whether it is more than an empty one.

        Raises:
            StudyError: it was made otherwise than its group.

        """
        relative = path.relative_to(self.results)
        self.inputs[relative.as_posix()] = path
        if reason := reason_left_out(origin):
            self.left_out["/".join(relative.parts[1:-1])] = reason
            return False
        self.agreement.check((path.name, *group), path, origin)
        return True


def main() -> None:
    """Read setup by setup, tabulate, stack and write."""
    arguments = program_arguments(
        __doc__,
        sheet={"help": "the checkpoint sheet"},
        results={"help": "folder of features/, sae/, recovery/ and tracking/"},
        output={"help": "folder of the tables"},
    )
    settings = arguments.settings
    rows = chosen_rows(read_sheet(arguments.sheet), settings["checkpoints"])
    parts = read_setups(rows, settings, arguments.results)
    bootstrap = Bootstrap(resamples=settings["resamples"], seed=settings["seed"])
    if not parts.labels:
        raise StudyError(f"no checkpoint can be tabulated: {next(iter(parts.left_out.values()))}")
    facts = facts_of_left_out(parts.left_out)
    # Digests of thousands of inputs are taken once, for all tables.
    origin = provenance_of(arguments, "features", parts.inputs, seed=settings["seed"], facts=facts)
    tables = tabulate(parts, bootstrap) | {
        "grid": grid_table(
            parts.filled, *(settings[name] for name in ("layers", "depths", "rows", "grid"))
        )
    }
    for name, table in tables.items():
        target = arguments.output / f"features_{name}.parquet"
        write_table(target, table, replace(origin, kind=target.stem))
        write_csv(target.with_suffix(".csv"), table)


def read_setups(rows: Sequence[Checkpoint], settings: Mapping[str, Any], results: Path) -> Parts:
    """Reduce setup after setup to small frames, so that memory holds the features of one.

    Those that were left out give none.

    Raises:
        StudyError: a file is missing or damaged, or was made in another way than that of another
            setup of its model.

    """
    parts = Parts(results, filled={model: set() for model in settings["checkpoints"]})
    wanted = list(setups(rows, settings["layers"], settings["saes"], settings["depths"]))
    for setup in progress(wanted, label="tabulate", unit="setup"):
        read_features(setup, parts)
        others = settings["extra_seeds"].get(setup.sae, [])
        read_quality(setup, parts, recovery=settings["recovery"], compared=bool(others))
        for sae in others:
            other = Setup(setup.row, setup.layer, sae)
            read_quality(other, parts, recovery=False, compared=False)
    return parts


def read_features(setup: Setup, parts: Parts) -> None:
    """Add labels, monosemanticity and sensitivity of one setup, unless it was left out."""
    folder = parts.results / "features" / setup.folder
    statistics, alternatives = folder / "statistics.parquet", folder / "sensitivity.parquet"
    accepted = [
        parts.accept(path, read_provenance(path), (setup.row.model,))
        for path in (statistics, alternatives)
    ]
    if not all(accepted):
        return
    parts.filled[setup.row.model].add((setup.row.checkpoint, setup.layer))
    found = read_table(statistics)
    parts.labels.append(with_depth(label_counts(found, statistics), setup))
    parts.ranked.append(with_depth(ranked_counts(found, statistics), setup))
    parts.histograms.append(with_depth(monosemanticity_histogram(found, statistics), setup))
    rows = sensitivity_rows(read_table(alternatives), alternatives)
    parts.sensitivity.append(with_depth(rows, setup))


def read_quality(setup: Setup, parts: Parts, *, recovery: bool, compared: bool) -> None:
    """Add the quality of one setup, with recovery and seeds where they were measured."""
    model = setup.row.model
    path = parts.results / "sae" / setup.folder / "quality.json"
    content = read_json(path)
    if not parts.accept(path, Provenance(**content["provenance"]), (model,)):
        return
    spliced = seeds = None
    if recovery:
        folder = parts.results / "recovery" / model / setup.row.checkpoint
        table = folder / f"{setup.sae}.parquet"
        if parts.accept(table, read_provenance(table), ("recovery", model)):
            spliced = recovery_rows(read_table(table), setup.layer, table)
    if compared:
        table = parts.results / "tracking" / setup.folder / "seeds.parquet"
        if parts.accept(table, read_provenance(table), (model,)):
            seeds = seed_row(read_table(table), table)
    rows = joined_quality(quality_rows(content, path), spliced, seeds)
    parts.quality.append(with_setup(rows, setup))


def tabulate(parts: Parts, bootstrap: Bootstrap) -> dict[str, pl.DataFrame]:
    """The tables by name."""
    languages = languages_table(pl.concat(parts.labels))
    sensitivity = pl.concat(parts.sensitivity)
    return {
        "languages": languages,
        "monosemanticity": monosemanticity_table(pl.concat(parts.histograms), bootstrap),
        "quality": pl.concat(parts.quality),
        "stages": stages_table(
            languages, sensitivity, matched_curves(pl.concat(parts.ranked)), bootstrap.seed
        ),
        "sensitivity": sensitivity,
    }


if __name__ == "__main__":
    run_program(main)
