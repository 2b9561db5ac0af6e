"""Plot accuracy of unpatched translation prompts over checkpoints, by output language."""

from __future__ import annotations

import json

from glossogenesis.figures.concept_frames import unpatched_frame
from glossogenesis.figures.concepts import plot_unpatched_accuracy
from glossogenesis.figures.inputs import figure_parser, languages_of, rows_of_model, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the accuracy table of one model, draw it, and save figure and numbers."""
    keys = "model, languages (code: {group, seen}), pivot"
    arguments = figure_parser(str(__doc__), "concepts_accuracy", keys).parse_args()
    settings = json.loads(arguments.settings)
    languages = languages_of(settings)
    data = unpatched_frame(rows_of_model(arguments.table, settings["model"]), languages)
    save_figure(plot_unpatched_accuracy(data, languages), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
