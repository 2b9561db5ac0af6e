"""Populations of features that are alike at every checkpoint, for what is compared between them.

A label needs a number of examples, and how many features have them differs: of a model with random
weights few, later nearly all. So a share of the labelled features is, at different checkpoints, one
of differently chosen parts of the dictionary. Here every checkpoint gives the same share of its
dictionary, the features with the most examples: as many hundredths as all checkpoints have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from glossogenesis.features.language_tables import over_layers
from glossogenesis.features.schemas import BILINGUAL, DEAD, UNLABELLED, WITHOUT_SHARE
from glossogenesis.study.setups import DEPTH_FACTS, require_columns

MATCHED = ("population", "matched")
"""Choice and value of rows whose populations are alike."""

HUNDREDTHS = 100
RANKED_SCHEMA = pl.Schema(
    {
        **pl.Schema({"dictionary": pl.Int64, "measured": pl.Int64}),
        **pl.Schema({"bilingual": pl.List(pl.Int64), "labelled": pl.List(pl.Int64)}),
    }
)


def ranked_counts(statistics: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Count the features of the hundredths of a `statistics.parquet` with the most examples.

    One row, `RANKED_SCHEMA`: features in the dictionary; those with enough examples to be measured;
    and, for 0 to 100 hundredths of the dictionary, how many of them are bilingual and labelled.
    """
    require_columns(statistics, {"examples": pl.Int32, "language": pl.String}, path)
    ordered = statistics.sort("examples", descending=True, maintain_order=True)
    labels = ordered["language"].to_numpy()
    ends = np.arange(HUNDREDTHS + 1) * statistics.height // HUNDREDTHS
    counted = {
        "bilingual": np.append(0, np.cumsum(labels == BILINGUAL))[ends],
        "labelled": np.append(0, np.cumsum(~np.isin(labels, WITHOUT_SHARE)))[ends],
    }
    row = {
        "dictionary": statistics.height,
        "measured": int((~np.isin(labels, [UNLABELLED, DEAD])).sum()),
        **{name: values.tolist() for name, values in counted.items()},
    }
    return pl.DataFrame([row], RANKED_SCHEMA)


def matched_curves(ranked: pl.DataFrame) -> pl.DataFrame:
    """Bilingual and labelled features of like populations, by layer and pooled.

    `ranked` has `DEPTH_FACTS` and `RANKED_SCHEMA`. The checkpoints of a layer and autoencoder give
    as many hundredths of their dictionaries as the one with the fewest measured features has.

    Columns: `DEPTH_FACTS`, choice, value, features (bilingual), labelled, dictionary.
    """
    share = HUNDREDTHS * pl.col("measured") // pl.col("dictionary")
    place = share.min().over("model", "sae", "layer")
    chosen = ranked.select(
        *DEPTH_FACTS.names(),
        pl.lit(MATCHED[0]).alias("choice"),
        pl.lit(MATCHED[1]).alias("value"),
        pl.col("bilingual").list.get(place).alias("features"),
        pl.col("labelled").list.get(place),
        "dictionary",
    )
    pooled = over_layers(chosen, ["choice", "value"], ["features", "labelled", "dictionary"])
    return pl.concat([chosen, pooled])
