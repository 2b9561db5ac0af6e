"""Table of injections: perplexity and translation of every target checkpoint in one long form.

The draws of a control are one row: means over the draws, and the lowest and highest difference
among them. The ends of a control's intervals are means over its draws too, which errs on the wide
side, since the mean of several draws varies less than one of them.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from glossogenesis.features.setups import require_columns
from glossogenesis.patching.injection_rows import PERPLEXITY_SCHEMA, TRANSLATION_SCHEMA
from glossogenesis.patching.tables import CHECKPOINT_FACTS

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
        "features": pl.Float64,  # mean over the draws
        **dict.fromkeys(_VALUES, pl.Float64),
        "difference_minimum": pl.Float64,
        "difference_maximum": pl.Float64,
    }
)
INJECTION_SCHEMA = pl.Schema({**CHECKPOINT_FACTS, **_COLUMNS})
_KEYS = ("layer", "alpha", "measure", "evaluated", "group", "control")


def perplexity_rows(perplexity: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Rows of one `perplexity.parquet`, draws of controls summarised.

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
    """Rows of one `translation.parquet`, draws of controls summarised.

    `value` is the metric's, `differences` are of it, and n is the number of sentences.

    Columns of `INJECTION_SCHEMA` from `layer` on.
    """
    require_columns(translation, TRANSLATION_SCHEMA, path)
    pair = pl.concat_str("input_language", pl.lit("→"), "output_language")
    return _over_draws(
        translation.with_columns(evaluated=pair).rename({"metric": "measure", "sentences": "n"})
    )


def _over_draws(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for every combination of `_KEYS`, in the order in which they first appear."""
    is_control = pl.col("control") != NONE
    ordered = rows.sort(pl.col("draw").fill_null(-1), maintain_order=True)
    means = [pl.col(name).cast(pl.Float64).mean().alias(name) for name in ("features", *_VALUES)]
    drawn = ordered.group_by(*_KEYS, maintain_order=True).agg(
        *means,
        draws=pl.when(is_control.first()).then(pl.len().cast(pl.Int64)),
        difference_minimum=pl.when(is_control.first()).then(pl.col("difference").min()),
        difference_maximum=pl.when(is_control.first()).then(pl.col("difference").max()),
    )
    order = rows.select(_KEYS).unique(maintain_order=True)
    own = [*_KEYS, "draws", "features", *_VALUES, "difference_minimum", "difference_maximum"]
    return order.join(drawn, on=list(_KEYS), how="left", maintain_order="left").select(own)
