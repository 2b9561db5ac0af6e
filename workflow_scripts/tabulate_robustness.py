"""Tabulate the robustness study over its models, and test every difference between them.

Reads of every model its predictions, pairs, effects of components, circuits, features, knockouts
and, where the settings say so, spelling variants.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from glossogenesis.robustness.tables.circuit import circuit_table
from glossogenesis.robustness.tables.classification import (
    classification_table,
    knockout_table,
    with_best_layers,
)
from glossogenesis.robustness.tables.comparisons import comparisons_table, with_rows_over_runs
from glossogenesis.robustness.tables.features import cues_table, features_table, variants_table
from glossogenesis.robustness.tables.inputs import Results, compared_models
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.tables import write_csv, write_table
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Tabulate, compare and write."""
    arguments = program_arguments(
        __doc__,
        results={"help": "folder of posts/, classifiers/, components/, ..., spelling_variants/"},
        output={"help": "folder of the tables"},
    )
    settings = arguments.settings
    results = Results(arguments.results)
    tables = tabulate(results, settings)
    # Digests of all inputs are taken once, for all tables.
    origin = provenance_of(arguments, "robustness", results.inputs, seed=settings["seed"])
    for name, table in tables.items():
        target = arguments.output / f"robustness_{name}.parquet"
        write_table(target, table, replace(origin, kind=target.stem))
        write_csv(target.with_suffix(".csv"), table)
        print(f"{target.name}: {table.height} rows")


def tabulate(results: Results, settings: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """The tables by name.

    Raises:
        StudyError: a file is missing or damaged, or was made in another way than its like.

    """
    models = compared_models(settings["models"], settings["seeds"])
    kinds = {name: facts["sae"] for name, facts in settings["saes"].items()}
    saes, thresholds = list(kinds), settings["thresholds"]
    bootstrap = Bootstrap(resamples=settings["resamples"], seed=settings["seed"])
    of_runs = {
        "classification": classification_table(results, models, bootstrap),
        "circuit": circuit_table(results, models, thresholds, bootstrap),
        "features": features_table(results, models, saes, bootstrap),
        "knockout": knockout_table(results, models, saes, bootstrap),
        "cues": cues_table(results, models, saes, bootstrap),
    }
    if settings["variants"]:
        of_runs["variants"] = variants_table(results, models, saes, bootstrap)
    tables = {name: with_rows_over_runs(table, kinds) for name, table in of_runs.items()}
    tables["knockout"] = with_best_layers(tables["knockout"])
    return tables | {
        "comparisons": comparisons_table(
            results, models, kinds, thresholds[0], bootstrap, variants=settings["variants"]
        )
    }


if __name__ == "__main__":
    run_program(main)
