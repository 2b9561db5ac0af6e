"""Plot the effect of every component of one classifier as a heat map, with intervals."""

from __future__ import annotations

import json

from glossogenesis.figures.component_figure import component_frame, plot_component_effects
from glossogenesis.figures.inputs import figure_parser, rows_of_model, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the circuits of one model, draw its effects, and save figure and numbers."""
    keys = "model, label, threshold"
    arguments = figure_parser(str(__doc__), "robustness_circuit", keys).parse_args()
    settings = json.loads(arguments.settings)
    rows = rows_of_model(arguments.table, settings["model"])
    data = component_frame(rows, settings["threshold"])
    figure = plot_component_effects(data, settings["label"])
    save_figure(figure, stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
