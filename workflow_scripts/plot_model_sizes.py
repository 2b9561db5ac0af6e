"""Plot mixed share and monosemanticity of features over training, a line a model."""

from __future__ import annotations

import json
from pathlib import Path

from glossogenesis.figures.feature_frames import rows_of_sae, size_frame
from glossogenesis.figures.features import plot_model_sizes
from glossogenesis.figures.inputs import figure_parser, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program
from glossogenesis.storage.tables import read_table


def main() -> None:
    """Read both tables of all models, draw them, and save figure and numbers."""
    keys = "models (label by name, in their order), sae"
    parser = figure_parser(str(__doc__), "features_languages", keys)
    parser.add_argument(
        "--monosemanticity", type=Path, required=True, help="features_monosemanticity.parquet"
    )
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    languages, monosemanticity = (
        rows_of_sae(read_table(path), settings["sae"], path)
        for path in (arguments.table, arguments.monosemanticity)
    )
    data = size_frame(languages, monosemanticity, list(settings["models"]))
    save_figure(plot_model_sizes(data, settings["models"]), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
