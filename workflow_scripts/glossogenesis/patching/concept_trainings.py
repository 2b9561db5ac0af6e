"""Comparisons over several trainings of one model, which differ in their seed alone.

What one training shows at a checkpoint may be its own. Where a study has several
(`pretrain.NAME.seeds`, each with its rows in the sheet), every comparison is put together over
them: the mean of their differences, with the variance between trainings as its error and that over
concepts added (`statistics.between_runs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from glossogenesis.concepts.comparisons import COMPARISON_SCHEMA, LEVEL
from glossogenesis.statistics.between_runs import mean_over_runs, variance_of_interval
from glossogenesis.statistics.false_discovery import adjusted

_OF_ONE_TRAINING = ("chosen_layers", "n", "accuracy", "reference_accuracy")
TRAININGS_SCHEMA = pl.Schema(
    {name: dtype for name, dtype in COMPARISON_SCHEMA.items() if name not in _OF_ONE_TRAINING}
    | {"trainings": pl.Int64}
)
_MEASURED = ("concepts", "difference", "low", "high", "p", "q", "survives", "trainings")
_KEYS = [name for name in TRAININGS_SCHEMA if name not in ("model", *_MEASURED)]


def trainings_table(
    comparisons: pl.DataFrame, trainings: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """Comparisons over trainings: rows of `TRAININGS_SCHEMA`, of what at least two trainings have.

    q corrects p over all rows of a model, by Benjamini and Hochberg (1995).

    Args:
        comparisons: rows of `COMPARISON_SCHEMA` of all models.
        trainings: the models that are trainings of each, itself the first, by its name.
    """
    parts = [pl.DataFrame(schema=TRAININGS_SCHEMA)]
    for model, names in trainings.items():
        rows = []
        of_model = comparisons.filter(pl.col("model").is_in(list(names)))
        for key, part in of_model.group_by(_KEYS, maintain_order=True):
            if part.height < 2:
                continue
            found = mean_over_runs(
                part["difference"].to_numpy(),
                within=variance_of_interval(part["low"].to_numpy(), part["high"].to_numpy()),
                items=min(part["concepts"].to_list()),
            )
            told = dict(zip(_KEYS, key, strict=True)) | {"model": model, "trainings": part.height}
            measured = {"difference": found.value, "low": found.low, "high": found.high}
            concepts = {"concepts": min(part["concepts"].to_list())}
            rows.append(told | measured | concepts | {"p": found.p, "q": None, "survives": None})
        table = pl.DataFrame(rows, TRAININGS_SCHEMA).with_columns(pl.col("p").fill_nan(None))
        q = adjusted(table["p"].fill_null(float("nan")).to_numpy())
        corrected = table.with_columns(q=pl.Series(q, dtype=pl.Float64).fill_nan(None))
        parts.append(corrected.with_columns(survives=pl.col("q") <= LEVEL))
    return pl.concat(parts)
