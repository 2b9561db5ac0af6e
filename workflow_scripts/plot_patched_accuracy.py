"""Plot accuracy of patched translation prompts over checkpoints, a panel a target pair."""

from __future__ import annotations

import json

from glossogenesis.figures.concept_frames import patched_frame
from glossogenesis.figures.concepts import plot_patched_accuracy
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
    """Read the accuracy table of one model, draw one start layer, and save figure and numbers."""
    keys = "model, languages (code: {group, seen}), pivot, start_layer (or best), target_pairs"
    arguments = figure_parser(str(__doc__), "concepts_accuracy", keys).parse_args()
    settings = json.loads(arguments.settings)
    accuracy = rows_of_model(arguments.table, settings["model"])
    pairs = [(given, asked) for given, asked in settings["target_pairs"]]
    data = patched_frame(accuracy, start_layer_of(settings, accuracy), pairs)
    save_figure(
        plot_patched_accuracy(data, languages_of(settings)), stem_of(arguments.output), data
    )


if __name__ == "__main__":
    run_program(main)
