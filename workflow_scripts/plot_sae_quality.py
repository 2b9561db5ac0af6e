"""Plot how good the sparse autoencoders are over training, a line a layer."""

from __future__ import annotations

import json

from glossogenesis.figures.feature_frames import rows_of_sae
from glossogenesis.figures.inputs import figure_parser, rows_of_model, stem_of
from glossogenesis.figures.quality_figure import plot_sae_quality, quality_frame
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the quality of one model's autoencoders, draw it, and save figure and numbers."""
    keys = "model, label, sae"
    arguments = figure_parser(str(__doc__), "features_quality", keys).parse_args()
    settings = json.loads(arguments.settings)
    rows = rows_of_model(arguments.table, settings["model"])
    data = quality_frame(rows_of_sae(rows, settings["sae"], arguments.table))
    save_figure(plot_sae_quality(data, settings["label"]), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
