"""What figures show: their lines, legends and texts, and the program that draws them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

import plot_figures
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table
from support.program_runs import run_main


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


def check_program(
    figures: Iterable[str], settings: Any, tables: Mapping[str, pl.DataFrame], folder: Path
) -> None:
    """Draw figures, such as `demo/outcomes`, by the program: three files each, with numbers."""
    paths = [folder / f"{name}.parquet" for name in tables]
    for path in paths:
        origin = Provenance(path.stem, "demo", {}, {}, "", libraries={})
        write_table(path, tables[path.stem], origin)
    output = [folder / "figures" / f"{figure}.svg" for figure in figures]
    run_main(plot_figures, settings, study=None, tables=paths, output=output)
    expected = {path.with_suffix(end) for path in output for end in (".svg", ".pdf", ".csv")}
    assert {path for path in (folder / "figures").rglob("*") if path.is_file()} == expected
    assert all(pl.read_csv(path.with_suffix(".csv")).height for path in output)
