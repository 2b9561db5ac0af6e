"""Plot features kept, born and died over training, and what mixed features were before."""

from __future__ import annotations

import json

import polars as pl

from glossogenesis.figures.inputs import figure_parser, stem_of
from glossogenesis.figures.style import save_figure
from glossogenesis.figures.tracking_figure import event_frame, origin_frame, plot_feature_tracking
from glossogenesis.program import run_program
from glossogenesis.storage.tables import read_table


def main() -> None:
    """Read the tracked features of one model, draw them, and save figure and numbers."""
    keys = "model, label, languages (by code, in their order), sae"
    arguments = figure_parser(str(__doc__), "features_tracking", keys).parse_args()
    settings = json.loads(arguments.settings)
    # A model with a single checkpoint has no rows.
    tracking = read_table(arguments.table).filter(model=settings["model"], sae=settings["sae"])
    codes = list(settings["languages"])
    events, origins = event_frame(tracking), origin_frame(tracking, codes)
    figure = plot_feature_tracking(events, origins, codes, settings["label"])
    save_figure(figure, stem_of(arguments.output), pl.concat([events, origins]))


if __name__ == "__main__":
    run_program(main)
