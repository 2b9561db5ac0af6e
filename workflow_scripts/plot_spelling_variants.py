"""Plot how far features outlive another spelling of a concept, with chance."""

from __future__ import annotations

import json
from pathlib import Path

from glossogenesis.figures.inputs import figure_parser, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.figures.variant_figure import plot_spelling_variants, variant_frame
from glossogenesis.program import run_program
from glossogenesis.storage.tables import read_table


def main() -> None:
    """Read the spelling variants of all models, draw them, and save figure and numbers."""
    keys = "models (label by model), sae"
    parser = figure_parser(str(__doc__), "robustness_variants", keys)
    parser.add_argument("--features", type=Path, required=True, help="robustness_features.parquet")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    models = settings["models"]
    variants, features = read_table(arguments.table), read_table(arguments.features)
    data = variant_frame(variants, features, models, settings["sae"])
    save_figure(plot_spelling_variants(data, models), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
