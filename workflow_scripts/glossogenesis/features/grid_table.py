"""Table of the grid: how many (model, checkpoint, layer) setups a study covers, and of how many.

A study may lack setups: checkpoints that are not published or that diverged, layers that were left
out. The grid is what `features.grid` says, such as a paper's number of setups, or else every layer
of every row of the checkpoint sheet; of a model alone it is always the latter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

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
    filled: Mapping[str, Collection[tuple[str, int]]],
    layers: Mapping[str, Sequence[int]],
    depths: Mapping[str, int | None],
    rows: Mapping[str, int],
    grid: int | None,
) -> pl.DataFrame:
    """A row a model and one for all, the model `all`; columns `GRID_SCHEMA`.

    Args:
        filled: checkpoints and layers that have features, by model.
        layers: that are covered, by model.
        depths: layers of each model; where that is not known, those that are covered stand for it.
        rows: of each model in the checkpoint sheet.
        grid: setups of the whole grid, where the study says so.
    """
    table = pl.DataFrame(
        {
            "model": list(filled),
            "checkpoints": [len({name for name, _ in setups}) for setups in filled.values()],
            "layers": [len(layers[model]) for model in filled],
            "n_layers": [depths[model] for model in filled],
            "setups": [len(setups) for setups in filled.values()],
            "grid": [rows[model] * (depths[model] or len(layers[model])) for model in filled],
        },
        schema_overrides={"n_layers": pl.Int64},
    )
    whole = table.select(
        pl.lit(EVERY_MODEL).alias("model"),
        pl.col("checkpoints").sum(),
        *(pl.lit(None, pl.Int64).alias(name) for name in ("layers", "n_layers")),
        pl.col("setups").sum(),
        pl.col("grid").sum() if grid is None else pl.lit(grid, pl.Int64).alias("grid"),
    )
    return pl.concat([table, whole]).with_columns(share=pl.col("setups") / pl.col("grid"))


def filled_share(grid: pl.DataFrame, model: str) -> str:
    """How much of the grid a model or `all` fills, as figures say it."""
    row = grid.filter(model=model).row(0, named=True)
    return f"{row['setups']:,} of {row['grid']:,} setups ({row['share']:.0%})"
