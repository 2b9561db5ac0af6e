"""Plot how well classifiers work with their circuits alone and without them, with controls."""

from __future__ import annotations

from glossogenesis.figures.circuit_figure import circuit_frame, plot_circuit_ablation
from glossogenesis.figures.inputs import robustness_inputs
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the circuits of all models, draw their ablations, and save figure and numbers."""
    given = robustness_inputs(str(__doc__), "circuit", choice="threshold")
    (circuit,) = given.tables
    data = circuit_frame(circuit, given.models, given.settings["threshold"])
    save_figure(plot_circuit_ablation(data, given.models), given.stem, data)


if __name__ == "__main__":
    run_program(main)
