"""Table of injections: perplexity and translation of every target checkpoint in one long form.

A control is one row: the mean over its draws, with its own interval, and the lowest and highest
difference among the draws.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from glossogenesis.concepts.tables import CHECKPOINT_FACTS
from glossogenesis.patching.injection_rows import PERPLEXITY_SCHEMA, TRANSLATION_SCHEMA
from glossogenesis.study.setups import require_columns

PERPLEXITY = "perplexity"
NONE = "none"
_DIFFERENCES = tuple(
    f"{name}{end}"
    for name in ("difference", "over_random", "over_norm_matched")
    for end in ("", "_low", "_high")
)
_VALUES = ("mean_change", "n", "value", "low", "high", *_DIFFERENCES)
_COLUMNS = pl.Schema(
    {
        "source": pl.String,  # the checkpoint whose features are injected
        "sae": pl.String,
        "layer": pl.Int32,
        "alpha": pl.Float64,
        "measure": pl.String,  # perplexity, bleu, chrf, exact, comet
        "evaluated": pl.String,  # language whose tokens are predicted, `all`, or a pair `en→ja`
        "group": pl.String,
        "control": pl.String,
        "draws": pl.Int64,
        "features": pl.Int64,
        **dict.fromkeys(_VALUES, pl.Float64),
        "difference_minimum": pl.Float64,
        "difference_maximum": pl.Float64,
    }
)
INJECTION_SCHEMA = pl.Schema({**CHECKPOINT_FACTS, **_COLUMNS})
_KEYS = ("layer", "alpha", "measure", "evaluated", "group", "control")


def perplexity_rows(perplexity: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Rows of one `perplexity.parquet`, draws of controls left out.

    `value` is the perplexity; differences are of the mean negative log-likelihood of a token, in
    nats, so that exp(difference) is the ratio of perplexities; n is the number of tokens.

    Columns of `INJECTION_SCHEMA` from `layer` on.
    """
    require_columns(perplexity, PERPLEXITY_SCHEMA, path)
    return _over_draws(
        perplexity.with_columns(measure=pl.lit(PERPLEXITY)).rename(
            {"language": "evaluated", "tokens": "n", "perplexity": "value"}
            | {f"perplexity_{end}": end for end in ("low", "high")}
        )
    )


def translation_rows(translation: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Rows of one `translation.parquet`, draws of controls left out.

    `value` is the metric's, `differences` are of it, and n is the number of sentences.

    Columns of `INJECTION_SCHEMA` from `layer` on.
    """
    require_columns(translation, TRANSLATION_SCHEMA, path)
    pair = pl.concat_str("input_language", pl.lit("→"), "output_language")
    return _over_draws(
        translation.with_columns(evaluated=pair).rename({"metric": "measure", "sentences": "n"})
    )


def _over_draws(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without a draw, beside the number and range of the draws; in the order of `rows`."""
    drawn = rows.filter(pl.col("draw").is_not_null()).group_by(_KEYS)
    ranges = drawn.agg(
        draws=pl.len().cast(pl.Int64),
        difference_minimum=pl.col("difference").min(),
        difference_maximum=pl.col("difference").max(),
    )
    whole = rows.filter(pl.col("draw").is_null()).join(
        ranges, on=list(_KEYS), how="left", maintain_order="left"
    )
    own = [*_KEYS, "draws", "features", *_VALUES, "difference_minimum", "difference_maximum"]
    return whole.select(pl.col(name).cast(_COLUMNS[name]) for name in own)
