"""What figures show: their lines, legends and texts, and the programs that draw them."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from program_runs import run_main


def drawn(axes: Axes, axis: int = 1, *, ignored: Collection[str] = ()) -> list[list[float]]:
    """Coordinates of the lines in a panel that have a marker, but for those that are ignored."""
    return [
        np.asarray(line.get_data()[axis], dtype=float).tolist()
        for line in axes.get_lines()
        if line.get_marker() not in ("None", *ignored) and len(line.get_xdata())
    ]


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def check_pages(figures: Iterable[Figure]) -> None:
    """Nothing is cut off, and no text is below seven points."""
    for figure in figures:
        figure.canvas.draw()
        whole = figure.bbox
        content = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert content.x0 >= whole.x0 - 1
        assert content.x1 <= whole.x1 + 1
        assert content.y0 >= whole.y0 - 1
        assert content.y1 <= whole.y1 + 1
        assert min(text.get_fontsize() for text in figure.findobj(match=Text)) >= 7


def run_plot(
    program: str, settings: Any, tables: Mapping[str, pl.DataFrame], folder: Path
) -> pl.DataFrame:
    """Run a program, check that it writes three files, and return its numbers.

    The first of `tables` is drawn; options name the others.
    """
    paths = {name: folder / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        table.write_parquet(paths[name])
    first, *others = tables
    options = {"table": paths[first]} | {name: paths[name] for name in others}
    output = folder / "out" / "x.svg"
    run_main(importlib.import_module(program), settings, study=None, output=output, **options)
    written = sorted(path.name for path in output.parent.iterdir())
    assert written == ["x.csv", "x.pdf", "x.svg"]
    return pl.read_csv(output.with_suffix(".csv"))
