"""Draw figures from the tables of one part of the study, each with its numbers beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from glossogenesis.figures.style import save_figure
from glossogenesis.storage.provenance import LEFT_OUT
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.workflow.figures import FIGURES, draw_figure
from glossogenesis.workflow.program import run_program


def figure_path(text: str) -> Path:
    """Check that a path is that of a figure."""
    path = Path(text)
    if path.suffix != ".svg" or path.stem not in FIGURES:
        raise argparse.ArgumentTypeError(f"{text}: should be NAME.svg, one of {', '.join(FIGURES)}")
    return path


def main() -> None:
    """Read the tables once, draw each figure, and save it as SVG, PDF and CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: models (label by name), and what figures of this part of the study need",
    )
    parser.add_argument(
        "--tables", type=Path, nargs="+", required=True, help="PART_NAME.parquet of the study"
    )
    parser.add_argument(
        "--output",
        type=figure_path,
        nargs="+",
        required=True,
        help="FIGURE.svg, in a folder of its model's name where it is of one model",
    )
    arguments = parser.parse_args()
    tables = {path.stem: read_table(path) for path in arguments.tables}
    left_out = {
        path.stem: read_provenance(path).facts.get(LEFT_OUT, {}) for path in arguments.tables
    }
    for path in arguments.output:
        model = path.parent.name
        figure, data = draw_figure(path.stem, model, arguments.settings, tables, left_out)
        save_figure(figure, path.with_suffix(""), data)


if __name__ == "__main__":
    run_program(main)
