"""What a plotting program is given: settings, a table of the study, and where the figure goes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.errors import StudyError
from glossogenesis.figures.concept_frames import Languages, best_start_layer
from glossogenesis.storage.tables import read_table


def figure_parser(description: str, table: str, settings: str) -> argparse.ArgumentParser:
    """A command line with --settings, --table and --output.

    `table` is the name of the table that is drawn, such as `concepts_accuracy`; `settings` names
    the keys of the settings.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", required=True, help=f"JSON: {settings}")
    parser.add_argument("--table", type=Path, required=True, help=f"{table}.parquet")
    parser.add_argument(
        "--output",
        type=svg_path,
        required=True,
        help="NAME.svg; NAME.pdf and NAME.csv come with it",
    )
    return parser


@dataclass(frozen=True)
class RobustnessInputs:
    """What a program is given that draws one figure of all models of the robustness study."""

    tables: tuple[pl.DataFrame, ...]
    """The one that is drawn, then those that stand beside it."""
    models: Mapping[str, str]
    """Label of each model, in their order."""
    settings: Mapping[str, Any]
    stem: Path
    """Where the figure goes, without its .svg."""


def robustness_inputs(description: str, table: str, *beside: str, choice: str) -> RobustnessInputs:
    """Read the command line of such a program, and the tables that it names.

    `table` is drawn, such as `cues` for `robustness_cues`, and an option names each table beside
    it; `choice` is the settings' key beside `models`.
    """
    keys = f"models (label by model), {choice}"
    parser = figure_parser(description, f"robustness_{table}", keys)
    for name in beside:
        parser.add_argument(
            f"--{name}", type=Path, required=True, help=f"robustness_{name}.parquet"
        )
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    paths = [arguments.table, *(getattr(arguments, name) for name in beside)]
    return RobustnessInputs(
        tables=tuple(read_table(path) for path in paths),
        models=settings["models"],
        settings=settings,
        stem=stem_of(arguments.output),
    )


def svg_path(text: str) -> Path:
    """Check that a path ends in .svg."""
    path = Path(text)
    if path.suffix != ".svg":
        raise argparse.ArgumentTypeError(f"{text}: should end in .svg")
    return path


def stem_of(output: Path) -> Path:
    """Where the figure goes, without its .svg."""
    return output.with_suffix("")


def rows_of_model(path: Path, model: str) -> pl.DataFrame:
    """Rows of a table that belong to `model`; StudyError where there are none."""
    table = read_table(path)
    rows = table.filter(model=model)
    if rows.is_empty():
        known = ", ".join(table["model"].unique().sort())
        raise StudyError(f"{path}: no rows of model {model!r}; it has {known or 'no rows at all'}")
    return rows


def languages_of(settings: Mapping[str, Any]) -> Languages:
    """Read `languages` (code: {group, seen}) and `pivot` of a plotting program's settings."""
    languages = settings["languages"]
    return Languages(
        groups={code: facts["group"] for code, facts in languages.items()},
        unseen=frozenset(code for code, facts in languages.items() if not facts["seen"]),
        pivot=settings["pivot"],
    )


def start_layer_of(settings: Mapping[str, Any], accuracy: pl.DataFrame) -> int:
    """The start layer to show: `start_layer` of the settings, or the best where it says `best`."""
    wanted = settings["start_layer"]
    if wanted == "best":
        return best_start_layer(accuracy, languages_of(settings).unseen)
    return int(wanted)
