"""Plot how many tokens and surface forms the top features of each label rest on."""

from __future__ import annotations

from glossogenesis.figures.cue_figure import cue_frame, plot_cues
from glossogenesis.figures.inputs import robustness_inputs
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the cues of all models, draw them at best layers, and save figure and numbers."""
    given = robustness_inputs(str(__doc__), "cues", "features", "knockout", choice="sae")
    cues, features, knockout = given.tables
    data = cue_frame(cues, features, knockout, given.models, given.settings["sae"])
    save_figure(plot_cues(data, given.models), given.stem, data)


if __name__ == "__main__":
    run_program(main)
