"""Plot mixed share and monosemanticity of features as heat maps of layers and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

from glossogenesis.figures.feature_frames import heat_frame, rows_of_sae
from glossogenesis.figures.features import plot_feature_heatmap
from glossogenesis.figures.inputs import figure_parser, rows_of_model, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read both tables of one model, draw them, and save figure and numbers."""
    keys = "model, label, sae"
    parser = figure_parser(str(__doc__), "features_languages", keys)
    parser.add_argument(
        "--monosemanticity", type=Path, required=True, help="features_monosemanticity.parquet"
    )
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    languages, monosemanticity = (
        rows_of_sae(rows_of_model(path, settings["model"]), settings["sae"], path)
        for path in (arguments.table, arguments.monosemanticity)
    )
    data = heat_frame(languages, monosemanticity)
    save_figure(plot_feature_heatmap(data, settings["label"]), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
