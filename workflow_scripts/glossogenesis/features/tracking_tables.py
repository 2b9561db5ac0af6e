"""Table of tracked features: how many were kept, born or died, and how their labels changed.

Features of a checkpoint are matched with those of the checkpoint before it in the sheet. A row
counts the features of one event:

- `kept`, with both labels: n is the number of alive features that had the earlier label, kept or
  not, so that the shares of one earlier label add up to 1 with its deaths;
- `death`, with the earlier label: n as for `kept`;
- `birth`, with the label now: n is the number of alive features that have it now;
- each event once without labels: n is all alive features, of the earlier checkpoint for `kept` and
  `death`, of this one for `birth`.
"""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl

from glossogenesis.errors import StudyError
from glossogenesis.features.shares import with_shares
from glossogenesis.study.setups import require_columns, schema_of_setups

EVENTS = ("kept", "birth", "death")
MATCHED_COLUMNS = {
    "feature": None,
    "earlier_feature": None,
    "cosine": None,
    "language": pl.String,
    "earlier_language": pl.String,
    "event": pl.String,
}
_COUNTS_SCHEMA = pl.Schema(
    {
        "event": pl.String,
        "earlier_language": pl.String,
        "language": pl.String,
        "count": pl.Int64,
        "n": pl.Int64,
        "mean_cosine": pl.Float64,
    }
)
_COUNTED = (
    *("event", "earlier_language", "language", "count", "n", "share", "low", "high"),
    "mean_cosine",
)
SIMILARITIES = ("mmcs_to_earlier", "mmcs_to_later", "matched_cosine")
"""How alike the two dictionaries are, of alive features; facts of a `matches.parquet`."""

TRACKING_SCHEMA = schema_of_setups(
    {
        "earlier_checkpoint": pl.String,
        "event": pl.String,
        "earlier_language": pl.String,
        "language": pl.String,
        "count": pl.Int64,
        "n": pl.Int64,
        "share": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "mean_cosine": pl.Float64,
        **dict.fromkeys(SIMILARITIES, pl.Float64),
    }
)


def tracking_counts(matches: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Count the events of one `matches.parquet`, over all labels and by labels.

    Columns: event, earlier_language, language, count, n, share, low, high (95 % Wilson interval),
    mean_cosine (of the kept features that the row counts). Label pairs that no feature has, have no
    row; the events over all labels always have one, with null shares where n is 0.

    Raises:
        StudyError: a column or event is unknown.

    """
    require_columns(matches, MATCHED_COLUMNS, path)
    if strange := sorted(set(matches["event"]) - set(EVENTS), key=str):
        raise StudyError(
            f"{path}: unknown event {strange[0]!r}; events are {', '.join(EVENTS)}; remove the "
            "file and run the workflow again"
        )
    rows = pl.concat([_over_all(matches), _by_labels(matches)])
    return with_shares(rows, "count", "n").select(_COUNTED)


def _over_all(matches: pl.DataFrame) -> pl.DataFrame:
    """One row an event."""
    count = dict(matches.group_by("event").len().iter_rows())
    kept, born, died = (count.get(event, 0) for event in EVENTS)
    cosine = _ordered_mean(matches.filter(event="kept")["cosine"])
    rows = [
        ("kept", None, None, kept, kept + died, cosine),
        ("birth", None, None, born, kept + born, None),
        ("death", None, None, died, kept + died, None),
    ]
    return pl.DataFrame(rows, _COUNTS_SCHEMA, orient="row")


def _by_labels(matches: pl.DataFrame) -> pl.DataFrame:
    """One row an event and pair of labels that occurs."""
    labels = ["earlier_language", "language"]
    shown = matches.with_columns(
        earlier_language=pl.when(pl.col("event") != "birth").then("earlier_language"),
        language=pl.when(pl.col("event") != "death").then("language"),
    )
    earlier, now = (
        dict(shown.filter(pl.col("event") != other).group_by(label).len().iter_rows())
        for label, other in zip(labels, ("birth", "death"), strict=True)
    )
    order = pl.col("event").replace_strict(
        {event: place for place, event in enumerate(EVENTS)}, return_dtype=pl.Int32
    )
    rows = []
    for (event, before, after), part in shown.sort(order, *labels, maintain_order=True).group_by(
        "event", *labels, maintain_order=True
    ):
        n = now[after] if event == "birth" else earlier[before]
        cosine = _ordered_mean(part["cosine"]) if event == "kept" else None
        rows.append((event, before, after, part.height, n, cosine))
    return pl.DataFrame(rows, _COUNTS_SCHEMA, orient="row")


def _ordered_mean(values: pl.Series) -> float | None:
    """Mean in float64, added up in one order on any number of threads; None of no values."""
    return math.fsum(values) / values.len() if values.len() else None
