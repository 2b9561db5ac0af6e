"""Plot how well classifiers work with their circuits alone and without them, with controls."""

from __future__ import annotations

import json

from glossogenesis.figures.circuit_figure import circuit_frame, plot_circuit_ablation
from glossogenesis.figures.inputs import figure_parser, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program
from glossogenesis.storage.tables import read_table


def main() -> None:
    """Read the circuits of all models, draw their ablations, and save figure and numbers."""
    keys = "models (label by model), threshold"
    arguments = figure_parser(str(__doc__), "robustness_circuit", keys).parse_args()
    settings = json.loads(arguments.settings)
    models = settings["models"]
    data = circuit_frame(read_table(arguments.table), models, settings["threshold"])
    save_figure(plot_circuit_ablation(data, models), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
