"""Plot how many tokens and surface forms the top features of each label rest on."""

from __future__ import annotations

import json
from pathlib import Path

from glossogenesis.figures.cue_figure import cue_frame, plot_cues
from glossogenesis.figures.inputs import figure_parser, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program
from glossogenesis.storage.tables import read_table


def main() -> None:
    """Read the cues of all models, draw them at best layers, and save figure and numbers."""
    keys = "models (label by model), sae"
    parser = figure_parser(str(__doc__), "robustness_cues", keys)
    for name in ("features", "knockout"):
        parser.add_argument(
            f"--{name}", type=Path, required=True, help=f"robustness_{name}.parquet"
        )
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    models = settings["models"]
    cues, features, knockout = (
        read_table(path) for path in (arguments.table, arguments.features, arguments.knockout)
    )
    data = cue_frame(cues, features, knockout, models, settings["sae"])
    save_figure(plot_cues(data, models), stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
