"""The rows of `statistics.parquet` whose features fire."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from glossogenesis.errors import StudyError


def alive_features(statistics: pl.DataFrame, n_latents: int, path: Path) -> pl.DataFrame:
    """Rows of features that fire, in their order, of an autoencoder with `n_latents`.

    StudyError names `path` where the statistics are of another autoencoder.
    """
    ordered = statistics.sort("feature")
    if ordered["feature"].to_list() != list(range(n_latents)):
        raise StudyError(
            f"{path}: describes {statistics.height} features, but its autoencoder has {n_latents}; "
            "delete the file and rerun"
        )
    return ordered.filter(pl.col("firings") > 0)
