"""Tables of features: languages, monosemanticity, both under other choices, and tracked ones.

The labels are the languages of the corpus, `bilingual`, `mixed`, `symbol`, `unlabelled` and `dead`,
as `language` says. Shares are of the labelled features, those of a language, bilingual or mixed; so
the others have none. How many of the dictionary are labelled stands in every row, since shares of
differently chosen parts of a dictionary are not of one kind.

Every feature is measured with the same number of examples, since few tokens cannot show many
meanings; those that have fewer are not measured.

Monosemanticity is 1 - H_semantic / H_token of a feature's activating tokens. It is 1 by definition
where all of them are one token, so every mean comes twice: over `all` features and over those with
`several_types` of tokens.

A dictionary has tens of thousands of features. They are resampled as a histogram with bins of 0.01,
each bin standing for the mean of its features: the mean is exact, and the variance within bins that
the interval leaves out is below 1e-5. So a setup is a small frame, and layers pool by adding up.

`sensitivity.parquet` has one row an alternative, in which one choice differs from the default. Here
every alternative has one row per label. The rows with the choice `range` give, as values `minimum`
and `maximum`, the lowest and highest over the default and all its alternatives: of the bilingual
share in the row of the label `bilingual`, of the mean monosemanticity in that of `all`.

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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.features.schemas import BILINGUAL, MIXED, NOT_LANGUAGES, SYMBOL, WITHOUT_SHARE
from glossogenesis.statistics.intervals import Bootstrap, tails, with_shares
from glossogenesis.study.setups import (
    DEPTH,
    DEPTH_FACTS,
    EVERY_DEPTH,
    SETUP_FACTS,
    require_columns,
    schema_of_setups,
)

_SHARES = {
    "features": pl.Int64,
    "labelled": pl.Int64,
    "dictionary": pl.Int64,
    "labelled_share": pl.Float64,
    "share": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
LANGUAGES_SCHEMA = schema_of_setups(
    {
        "label": pl.String,
        **_SHARES,
    },
    DEPTH_FACTS,
)

ALL = "all"
SUBSETS = ("all", "several_types")
BINS = 101
"""Bins of 0.01 from 0, and one for exactly 1."""

MONOSEMANTICITY_SCHEMA = schema_of_setups(
    {
        "label": pl.String,
        "subset": pl.String,
        "features": pl.Int64,
        "of_dictionary": pl.Float64,
        "mean": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "single_type_share": pl.Float64,
    },
    DEPTH_FACTS,
)
HISTOGRAM_SCHEMA = pl.Schema(
    {
        **pl.Schema({"label": pl.String, "subset": pl.String}),
        **pl.Schema({"dictionary": pl.Int64, "singles": pl.Int64}),
        **pl.Schema({"counts": pl.List(pl.Int64), "sums": pl.List(pl.Float64)}),
    }
)

RANGE = "range"
READ_COLUMNS = {
    "choice": pl.String,
    "value": pl.String,
    "features_by_label": None,
    "labelled": pl.Int64,
    "monosemanticity": pl.Float64,
    "monosemanticity_by_label": None,
}
SENSITIVITY_SCHEMA = schema_of_setups(
    {
        "choice": pl.String,
        "value": pl.String,
        "label": pl.String,
        **_SHARES,
        "monosemanticity": pl.Float64,
    },
    DEPTH_FACTS,
)
_COUNTED = ("choice", "value", "label", "features", "labelled", "dictionary", "monosemanticity")

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
_TRACKED_COUNTED = (
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


def languages_in(statistics: pl.DataFrame, path: Path) -> list[str]:
    """The languages that features in a `statistics.parquet` may have, in the corpus' order."""
    require_columns(statistics, {"language": pl.String, "share_by_language": None}, path)
    dtype = statistics.schema["share_by_language"]
    if not isinstance(dtype, pl.Struct):
        raise StudyError(
            f"{path}: column share_by_language should be a struct of languages, is {dtype}; "
            "remove the file and run the workflow again"
        )
    return [entry.name for entry in dtype.fields]


def label_counts(statistics: pl.DataFrame, path: Path) -> pl.DataFrame:
    """How many features have each label, also those that none has; columns label, features.

    Raises:
        StudyError: a label is not a language of the corpus.

    """
    labels = [*languages_in(statistics, path), *NOT_LANGUAGES]
    counted = dict(statistics.group_by("language").len().iter_rows())
    if strange := sorted(set(counted) - set(labels), key=str):
        raise StudyError(
            f"{path}: a feature has the label {strange[0]!r}, which is none of "
            f"{', '.join(labels)}; remove the file and run the workflow again"
        )
    return pl.DataFrame(
        {"label": labels, "features": [counted.get(label, 0) for label in labels]},
        schema={"label": pl.String, "features": pl.Int64},
    )


def languages_table(counts: pl.DataFrame) -> pl.DataFrame:
    """Share of each label with its 95 % Wilson interval, by layer, third of depth and pooled.

    `counts` has `DEPTH_FACTS`, label and features. Rows pooled over the layers of a third, and over
    all layers, follow those of the layers, with `layer` null; they are there for a single layer
    too. Features of a dictionary are taken as independent. `share`, `low` and `high` are null for
    labels `WITHOUT_SHARE`, and where no feature is labelled.

    Columns: `LANGUAGES_SCHEMA`.
    """
    pooled = over_layers(counts, ["label"], ["features"])
    known = ~pl.col("label").is_in(WITHOUT_SHARE)
    of_setup = DEPTH_FACTS.names()
    every = pl.concat([counts, pooled]).with_columns(
        labelled=pl.col("features").filter(known).sum().over(of_setup),
        dictionary=pl.col("features").sum().over(of_setup),
    )
    shares = with_shares(every, "features", "labelled", where=known).with_columns(
        labelled_share=pl.col("labelled") / pl.col("dictionary")
    )
    return in_order_of_setups(shares).select(LANGUAGES_SCHEMA.names())


def over_layers(counts: pl.DataFrame, by: Sequence[str], added: Sequence[str]) -> pl.DataFrame:
    """The columns `added`, added up over the layers of each third and over all layers.

    Rows by checkpoint and value of `by`, first those of the thirds, then with the depth `all`.
    """
    keys = [name for name in SETUP_FACTS if name != "layer"]
    parts = []
    for rows in (
        counts.filter(pl.col(DEPTH).is_not_null()),
        counts.with_columns(pl.lit(EVERY_DEPTH).alias(DEPTH)),
    ):
        pooled = rows.group_by(*keys, DEPTH, *by, maintain_order=True).agg(pl.col(added).sum())
        parts.append(
            pooled.with_columns(layer=pl.lit(None, pl.Int32)).select(
                *DEPTH_FACTS.names(), *by, *added
            )
        )
    return pl.concat(parts)


def in_order_of_setups(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows by checkpoint and autoencoder as they first appear, then by layer, pooled ones last.

    Rows of one setup keep their order.
    """
    places = rows.select("model", "checkpoint", "sae").unique(maintain_order=True)
    return (
        rows.join(places.with_row_index("_place"), on=["model", "checkpoint", "sae"], how="left")
        .sort("_place", "layer", nulls_last=True, maintain_order=True)
        .drop("_place")
    )


def monosemanticity_histogram(statistics: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Features of each label and subset by bins of monosemanticity: number and sum of each bin.

    The label `all` stands for the labelled features, those of a language, bilingual or mixed;
    features with too few examples have no monosemanticity and do not count.

    Columns: `HISTOGRAM_SCHEMA`; `singles` counts the features with a single type of token.

    Raises:
        StudyError: a monosemanticity is not between 0 and 1.

    """
    codes = languages_in(statistics, path)
    require_columns(statistics, {"monosemanticity": pl.Float64, "token_types": None}, path)
    measured = statistics.filter(pl.col("monosemanticity").is_not_null())
    values = measured["monosemanticity"].to_numpy()
    if values.size and not bool(np.all((values > -1e-6) & (values < 1 + 1e-6))):
        raise StudyError(
            f"{path}: a monosemanticity is not between 0 and 1; remove the file and run the "
            "workflow again"
        )
    labels = measured["language"].to_numpy()
    single = (measured["token_types"] <= 1).to_numpy()
    rows = []
    for label in (*codes, BILINGUAL, MIXED, ALL, SYMBOL):
        wanted = ~np.isin(labels, WITHOUT_SHARE) if label == ALL else labels == label
        for subset in SUBSETS:
            chosen = wanted if subset == "all" else wanted & ~single
            counts, sums = _binned(values[chosen])
            singles = int(single[chosen].sum())
            rows.append([label, subset, statistics.height, singles, counts, sums])
    return pl.DataFrame(rows, HISTOGRAM_SCHEMA, orient="row")


def monosemanticity_table(histograms: pl.DataFrame, bootstrap: Bootstrap) -> pl.DataFrame:
    """Mean monosemanticity with its bootstrap interval, by layer, third of depth and pooled.

    `histograms` has `DEPTH_FACTS` and `HISTOGRAM_SCHEMA`. Rows pooled over layers have `layer`
    null. Features are taken as independent; an interval is null where there are fewer than two.
    Every row is resampled with the same seed, so that a further setup changes no other.

    Columns: `MONOSEMANTICITY_SCHEMA`; `single_type_share` is that of the features of the row.
    """
    rows = in_order_of_setups(pl.concat([histograms, _pooled(histograms)]))
    entries = []
    for row in rows.iter_rows(named=True):
        counts, sums = np.asarray(row["counts"], np.int64), np.asarray(row["sums"], np.float64)
        number = int(counts.sum())
        low, high = _interval(counts, sums, bootstrap)
        entries.append(
            {name: row[name] for name in (*DEPTH_FACTS, "label", "subset")}
            | {"features": number, "of_dictionary": number / row["dictionary"]}
            | {"low": low, "high": high}
            | {"mean": float(sums.sum()) / number if number else None}
            | {"single_type_share": row["singles"] / number if number else None}
        )
    return pl.DataFrame(entries, MONOSEMANTICITY_SCHEMA)


def _binned(values: np.ndarray) -> tuple[list[int], list[float]]:
    """Number and sum of values in each bin."""
    clipped = np.clip(values, 0.0, 1.0)
    places = np.floor(clipped * (BINS - 1)).astype(np.int64)
    counts = np.bincount(places, minlength=BINS)
    sums = np.bincount(places, weights=clipped, minlength=BINS)
    return counts.tolist(), sums.tolist()


def _pooled(histograms: pl.DataFrame) -> pl.DataFrame:
    """Histograms added up over the layers of each third of the depth, and over all layers."""
    keys = [*(name for name in DEPTH_FACTS if name != "layer"), "label", "subset"]
    thirds = histograms.filter(pl.col(DEPTH).is_not_null())
    rows = []
    for scope in (thirds, histograms.with_columns(pl.lit(EVERY_DEPTH).alias(DEPTH))):
        for key, part in scope.group_by(*keys, maintain_order=True):
            totals = {name: int(part[name].sum()) for name in ("dictionary", "singles")}
            lists = {n: np.sum(part[n].to_list(), axis=0).tolist() for n in ("counts", "sums")}
            rows.append(dict(zip(keys, key, strict=True)) | {"layer": None} | totals | lists)
    return pl.DataFrame(rows, histograms.schema)


def _interval(
    counts: np.ndarray, sums: np.ndarray, bootstrap: Bootstrap
) -> tuple[float | None, float | None]:
    """Percentile interval of the mean over resampled features; None where there is at most one."""
    number = int(counts.sum())
    if number < 2:
        return None, None
    filled = counts > 0
    generator = np.random.default_rng(bootstrap.seed)
    draws = generator.multinomial(number, counts[filled] / number, size=bootstrap.resamples)
    means = draws @ (sums[filled] / counts[filled]) / number
    low, high = np.quantile(means, tails(number, bootstrap.confidence))
    return float(low), float(high)


def sensitivity_rows(sensitivity: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Rows of one `sensitivity.parquet` by label, and those of the range.

    Columns of `SENSITIVITY_SCHEMA` without the facts of the setup. The label `all` stands for all
    labelled features. low and high are the 95 % Wilson interval of the share; ends of the range
    have none.
    """
    require_columns(sensitivity, READ_COLUMNS, path)
    rows = []
    for row in sensitivity.iter_rows(named=True):
        named = [row["choice"], row["value"]]
        means, counts = row["monosemanticity_by_label"], row["features_by_label"]
        of = [row["labelled"], sum(counts.values())]
        for label, number in counts.items():
            rows.append([*named, label, number, *of, means.get(label)])
        rows.append([*named, ALL, row["labelled"], *of, row["monosemanticity"]])
    counted = pl.Schema({name: SENSITIVITY_SCHEMA[name] for name in _COUNTED})
    table = with_shares(
        pl.DataFrame(rows, counted, orient="row"),
        "features",
        "labelled",
        where=~pl.col("label").is_in([*WITHOUT_SHARE, ALL]),
    )
    table = table.with_columns(labelled_share=pl.col("labelled") / pl.col("dictionary"))
    table = table.select(name for name in SENSITIVITY_SCHEMA if name not in DEPTH_FACTS)
    return pl.concat([table, _range(table)])


def _range(table: pl.DataFrame) -> pl.DataFrame:
    """Lowest and highest of the bilingual share and of the mean monosemanticity."""
    rows = []
    for name in ("minimum", "maximum"):
        for label, column in ((BILINGUAL, "share"), (ALL, "monosemanticity")):
            values = table.filter(label=label)[column]
            found = values.min() if name == "minimum" else values.max()
            rows.append({"choice": RANGE, "value": name, "label": label, column: found})
    return pl.DataFrame(rows, table.schema)


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
    return with_shares(rows, "count", "n").select(_TRACKED_COUNTED)


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
