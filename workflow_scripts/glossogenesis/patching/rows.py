"""The rows of `patching.parquet`: one per item, setting and start layer.

They stand apart from the tables made of them, so that a change of a table or interval does not make
the rows outdated.
"""

from __future__ import annotations

from typing import Literal, get_args

import polars as pl

from glossogenesis.concepts.scoring import OUTCOMES
from glossogenesis.errors import StudyError

Setting = Literal["tgt_unpatched", "src_unpatched", "seen", "tgt", "en_en", "copy", "self"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)

PATCHING_SCHEMA = pl.Schema(
    {
        "item": pl.Int32,
        "setting": pl.String,
        "input_language": pl.String,
        "output_language": pl.String,
        "start_layer": pl.Int32,  # null for the unpatched settings
        "source_concept": pl.String,
        "target_concept": pl.String,
        "expected_concept": pl.String,
        "answer": pl.String,  # null where nothing was generated at this start layer
        "correct": pl.Boolean,
        "outcome": pl.String,
        "copyable": pl.Boolean,  # a copy of the expected concept's input word is correct
        "log_p_source": pl.Float32,  # natural log of the summed first-token probability
        "log_p_target": pl.Float32,
        "log_p_expected": pl.Float32,
    }
)


def check_rows(rows: pl.DataFrame, source: str) -> None:
    """Refuse rows that do not fit `PATCHING_SCHEMA` or hold a value that cannot be.

    StudyError names the file, given as `source`, the column and the mend.
    """
    mend = f"remove {source} and run again"
    for column, dtype in PATCHING_SCHEMA.items():
        if rows.schema.get(column) != dtype:
            found = rows.schema.get(column, "no such column")
            raise StudyError(f"{source}: column {column} should be {dtype}, is {found}; {mend}")
    for column, known in (("setting", SETTINGS), ("outcome", OUTCOMES)):
        strange = sorted(set(rows[column].drop_nulls().unique()) - set(known))
        if strange:
            raise StudyError(f"{source}: unknown {column} {strange[0]!r}; {mend}")
    if rows["answer"].is_null().ne(rows["correct"].is_null()).any():
        raise StudyError(f"{source}: rows with an answer but no score, or the reverse; {mend}")
    for column in ("log_p_source", "log_p_target", "log_p_expected"):
        broken = int(rows[column].is_nan().sum())
        if broken:
            raise StudyError(
                f"{source}: {column} is not a number in {broken} rows, which no run writes; {mend}"
            )
