"""Table of other choices: what labels and monosemanticity would have been, and their range.

`sensitivity.parquet` has one row an alternative, in which one choice differs from the default. Here
every alternative has a row a label. The rows with the choice `range` give, as values `minimum` and
`maximum`, the lowest and highest over the default and all its alternatives: of the bilingual share
in the row of the label `bilingual`, of the mean monosemanticity in the row of the label `all`.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from glossogenesis.features.schemas import BILINGUAL, WITHOUT_SHARE
from glossogenesis.features.shares import with_shares
from glossogenesis.features.tables import ALL
from glossogenesis.study.setups import DEPTH_FACTS, require_columns, schema_of_setups

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
        "features": pl.Int64,
        "labelled": pl.Int64,
        "dictionary": pl.Int64,
        "labelled_share": pl.Float64,
        "share": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "monosemanticity": pl.Float64,
    },
    DEPTH_FACTS,
)
_COUNTED = ("choice", "value", "label", "features", "labelled", "dictionary", "monosemanticity")


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
