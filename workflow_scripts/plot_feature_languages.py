"""Plot the share of features of each language, and of mixed ones, over training, by layer."""

from __future__ import annotations

import json
from pathlib import Path

from glossogenesis.figures.feature_frames import rows_of_sae, share_frame
from glossogenesis.figures.features import plot_feature_languages
from glossogenesis.figures.inputs import figure_parser, rows_of_model, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read languages and stages of one model, draw them, and save figure and numbers."""
    keys = "model, label, languages (by code, in their order), sae"
    parser = figure_parser(str(__doc__), "features_languages", keys)
    parser.add_argument("--stages", type=Path, required=True, help="features_stages.parquet")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    model, sae = settings["model"], settings["sae"]
    table = rows_of_sae(rows_of_model(arguments.table, model), sae, arguments.table)
    stages = rows_of_sae(rows_of_model(arguments.stages, model), sae, arguments.stages)
    codes = list(settings["languages"])
    data = share_frame(table, codes)
    figure = plot_feature_languages(data, codes, stages, settings["label"])
    save_figure(figure, stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
