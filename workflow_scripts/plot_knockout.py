"""Plot what recall of each label loses without its top features, with controls."""

from __future__ import annotations

from glossogenesis.figures.inputs import robustness_inputs
from glossogenesis.figures.knockout_figure import knockout_frame, plot_knockout
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the knockouts of all models, draw them, and save figure and numbers."""
    given = robustness_inputs(str(__doc__), "knockout", "features", choice="sae")
    knockout, features = given.tables
    data = knockout_frame(knockout, features, given.models, given.settings["sae"])
    save_figure(plot_knockout(data, given.models), given.stem, data)


if __name__ == "__main__":
    run_program(main)
