"""Plot what injected features change at earlier checkpoints, with controls."""

from __future__ import annotations

import json

from glossogenesis.figures.injection_figure import injection_frame, plot_injection
from glossogenesis.figures.inputs import figure_parser, rows_of_model, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.program import run_program


def main() -> None:
    """Read the injections into one model, draw one measure, and save figure and numbers."""
    keys = "model, label, languages (by code, in their order)"
    parser = figure_parser(str(__doc__), "features_injection", keys)
    parser.add_argument(
        "--measure",
        choices=("perplexity", "bleu", "chrf", "exact", "comet"),
        default="perplexity",
        help="perplexity, or a metric of translation",
    )
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    rows = rows_of_model(arguments.table, settings["model"])
    data = injection_frame(rows, list(settings["languages"]), arguments.measure)
    figure = plot_injection(data, settings["label"], arguments.measure)
    save_figure(figure, stem_of(arguments.output), data)


if __name__ == "__main__":
    run_program(main)
