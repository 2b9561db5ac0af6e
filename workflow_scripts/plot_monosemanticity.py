"""Plot mean monosemanticity of features over training by language, a panel a layer."""

from __future__ import annotations

import json

from glossogenesis.figures.feature_frames import monosemanticity_frame, rows_of_sae
from glossogenesis.figures.features import plot_monosemanticity
from glossogenesis.figures.inputs import figure_parser, rows_of_model, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the monosemanticity of one model, draw it, and save figure and numbers."""
    keys = "model, label, languages (by code, in their order), sae"
    arguments = figure_parser(str(__doc__), "features_monosemanticity", keys).parse_args()
    settings = json.loads(arguments.settings)
    rows = rows_of_model(arguments.table, settings["model"])
    codes = list(settings["languages"])
    data = monosemanticity_frame(rows_of_sae(rows, settings["sae"], arguments.table), codes)
    figure = plot_monosemanticity(data, codes, settings["label"])
    save_figure(figure, stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
