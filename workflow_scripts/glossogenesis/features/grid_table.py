"""Table of the grid: how many (model, checkpoint, layer) setups a study covers, and of how many.

A study may lack setups: checkpoints that are not published, layers that were left out. The grid is
what `features.grid` says, such as a paper's number of setups, or else every layer of every row of
the checkpoint sheet; of a model alone it is always the latter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

EVERY_MODEL = "all"
GRID_SCHEMA = pl.Schema(
    {
        "model": pl.String,
        "checkpoints": pl.Int64,
        "layers": pl.Int64,
        "n_layers": pl.Int64,
        "setups": pl.Int64,
        "grid": pl.Int64,
        "share": pl.Float64,
    }
)


def grid_table(
    checkpoints: Mapping[str, Sequence[str]],
    layers: Mapping[str, Sequence[int]],
    depths: Mapping[str, int | None],
    rows: Mapping[str, int],
    grid: int | None,
) -> pl.DataFrame:
    """A row a model and one for all, the model `all`; columns `GRID_SCHEMA`.

    Args:
        checkpoints: that are covered, by model.
        layers: that are covered, by model.
        depths: layers of each model; where that is not known, those that are covered stand for it.
        rows: of each model in the checkpoint sheet.
        grid: setups of the whole grid, where the study says so.
    """
    found = []
    for model, names in checkpoints.items():
        n_layers = depths[model] or len(layers[model])
        covered = len(names) * len(layers[model])
        of = rows[model] * n_layers
        found.append((model, len(names), len(layers[model]), depths[model], covered, of))
    covered, every = (sum(row[place] for row in found) for place in (4, 5))
    found.append((EVERY_MODEL, sum(row[1] for row in found), None, None, covered, grid or every))
    return pl.DataFrame([(*row, row[4] / row[5]) for row in found], GRID_SCHEMA, orient="row")


def filled_share(grid: pl.DataFrame, model: str) -> str:
    """How much of the grid a model or `all` fills, as figures say it."""
    row = grid.filter(model=model).row(0, named=True)
    return f"{row['setups']:,} of {row['grid']:,} setups ({row['share']:.0%})"
