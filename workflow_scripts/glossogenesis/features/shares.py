"""Shares of features with their intervals, as columns of a table."""

from __future__ import annotations

import numpy as np
import polars as pl

from glossogenesis.statistics.intervals import wilson_interval


def with_shares(
    rows: pl.DataFrame, hits: str, n: str, where: pl.Expr | None = None
) -> pl.DataFrame:
    """Add share (`hits` / `n`), low and high: the 95 % Wilson interval; Float64.

    They are null where `n` is 0, and where `where` is not true.
    """
    wanted = pl.col(n) > 0 if where is None else (pl.col(n) > 0) & where
    chosen = rows.select(wanted.fill_null(False)).to_series().to_numpy()
    values = np.full((3, rows.height), np.nan)
    successes, trials = (rows[column].to_numpy()[chosen] for column in (hits, n))
    if trials.size:
        values[0, chosen] = successes / trials
        values[1:, chosen] = wilson_interval(successes, trials)
    return rows.with_columns(
        pl.Series(name, column, dtype=pl.Float64).fill_nan(None)
        for name, column in zip(("share", "low", "high"), values, strict=True)
    )
