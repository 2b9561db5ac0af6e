"""Tables of injections: the rows of one checkpoint, and those of all of them in one long form.

Both have one row for no injection (group `none`, alpha 0), one for every group at every strength,
one for every draw of each of its controls, and one for the mean over a control's draws.

A control is one row: the mean over its draws, with its own interval, and the lowest and highest
difference among the draws.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from glossogenesis.study.setups import CHECKPOINT_FACTS, require_columns

_INJECTED = {
    "layer": pl.Int32,
    "alpha": pl.Float64,  # 0 where nothing is injected
    "group": pl.String,  # none, a language, bilingual or symbol
    "control": pl.String,  # none, random or norm_matched
    "draw": pl.Int32,  # number of a control's draw; null elsewhere, also of the mean over draws
    "features": pl.Int32,  # latents that are summed over
    "mean_change": pl.Float64,  # mean norm of what is added, over the tokens of perplexity
}

_COMPARED = {
    "difference": pl.Float64,  # to no injection, the same items compared
    "difference_low": pl.Float64,
    "difference_high": pl.Float64,
    # To the mean over the draws of a control; null in rows of controls and of no injection.
    "over_random": pl.Float64,
    "over_random_low": pl.Float64,
    "over_random_high": pl.Float64,
    "over_norm_matched": pl.Float64,
    "over_norm_matched_low": pl.Float64,
    "over_norm_matched_high": pl.Float64,
}

PERPLEXITY_SCHEMA = pl.Schema(
    {
        **_INJECTED,
        "language": pl.String,
        "contexts": pl.Int32,
        "tokens": pl.Int64,
        "nll": pl.Float64,
        "perplexity": pl.Float64,
        "perplexity_low": pl.Float64,
        "perplexity_high": pl.Float64,
        **_COMPARED,  # of nll: exp(difference) is the ratio of perplexities
    }
)

TRANSLATION_SCHEMA = pl.Schema(
    {
        **_INJECTED,
        "input_language": pl.String,
        "output_language": pl.String,
        "metric": pl.String,
        "sentences": pl.Int32,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        **_COMPARED,  # of value
    }
)

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
