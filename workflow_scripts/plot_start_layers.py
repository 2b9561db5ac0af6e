"""Plot accuracy of patched translation prompts over the start layer of the patch, by checkpoint."""

from __future__ import annotations

import json

from glossogenesis.figures.concept_frames import start_layer_frame
from glossogenesis.figures.concepts import plot_start_layers
from glossogenesis.figures.inputs import figure_parser, languages_of, rows_of_model, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the accuracy table of one model, draw all start layers, and save figure and numbers."""
    keys = "model, languages (code: {group, seen}), pivot"
    parser = figure_parser(str(__doc__), "concepts_accuracy", keys)
    parser.add_argument("--panels", choices=("setting", "pair"), default="setting")
    parser.add_argument("--setting", default="seen", help="the setting shown with --panels pair")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    accuracy = rows_of_model(arguments.table, settings["model"])
    languages = languages_of(settings)
    data = start_layer_frame(accuracy, arguments.panels, arguments.setting, languages.unseen)
    save_figure(plot_start_layers(data, languages), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
