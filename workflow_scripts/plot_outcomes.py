"""Plot what answers were over checkpoints: correct, copied, kept, in another language, or other."""

from __future__ import annotations

import json
from pathlib import Path

from glossogenesis.figures.concept_frames import outcome_frame
from glossogenesis.figures.concepts import plot_outcomes
from glossogenesis.figures.inputs import (
    figure_parser,
    languages_of,
    rows_of_model,
    start_layer_of,
    stem_of,
)
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the outcomes of one model, draw one start layer, and save figure and numbers."""
    keys = "model, languages (code: {group, seen}), pivot, start_layer (a number or best)"
    parser = figure_parser(str(__doc__), "concepts_outcomes", keys)
    parser.add_argument(
        "--accuracy", type=Path, required=True, help="concepts_accuracy.parquet, for the best layer"
    )
    parser.add_argument("--panels", choices=("setting", "pair"), default="setting")
    parser.add_argument("--setting", default="seen", help="the setting shown with --panels pair")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    outcomes = rows_of_model(arguments.table, settings["model"])
    accuracy = rows_of_model(arguments.accuracy, settings["model"])
    patched = outcomes["start_layer"].is_not_null().any()
    start_layer = start_layer_of(settings, accuracy) if patched else None
    languages = languages_of(settings)
    data = outcome_frame(
        outcomes, start_layer, arguments.panels, arguments.setting, languages.unseen
    )
    save_figure(plot_outcomes(data, languages), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
