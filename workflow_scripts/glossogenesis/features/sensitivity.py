"""The rows of `sensitivity.parquet`: what other choices make of the same features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.features.alternatives import Alternative, Choices
from glossogenesis.features.language import label_names
from glossogenesis.features.measures import Measured
from glossogenesis.features.schemas import WITHOUT_SHARE, sensitivity_schema


def sensitivity_table(
    alternatives: Sequence[Alternative],
    measured: Mapping[Choices, Measured],
    languages: Sequence[str],
) -> pl.DataFrame:
    """One row an alternative, the study's own choices first; columns as `sensitivity_schema`."""
    rows = [
        {"choice": alternative.choice, "value": alternative.value}
        | _summary(measured[alternative.choices], languages)
        for alternative in alternatives
    ]
    return pl.DataFrame(rows, schema=sensitivity_schema(languages))


def _summary(measured: Measured, languages: Sequence[str]) -> dict[str, Any]:
    names = label_names(languages)
    n_known = len(names) - len(WITHOUT_SHARE)
    known = measured.labels < n_known
    several = known & (measured.token_types > 1)
    counted = np.bincount(measured.labels, minlength=len(names)).tolist()
    values = measured.monosemanticity
    return {
        "features_by_label": dict(zip(names, counted, strict=True)),
        "labelled": int(known.sum()),
        "monosemanticity": _mean(values[known]),
        "monosemanticity_by_label": {
            name: _mean(values[measured.labels == number])
            for number, name in enumerate(names[:n_known])
        },
        "several_types": int(several.sum()),
        "monosemanticity_several_types": _mean(values[several]),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean of the values; None of no values."""
    return math.fsum(values) / len(values) if len(values) else None
