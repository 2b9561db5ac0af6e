"""Columns of `perplexity.parquet` and `translation.parquet` of an injection.

Both have one row for no injection (group `none`, alpha 0), one for every group at every strength,
one for every draw of each of its controls, and one for the mean over a control's draws.
"""

from __future__ import annotations

import polars as pl

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
        "language": pl.String,  # of the predicted token's document, or `all`: tokens pooled
        "contexts": pl.Int32,
        "tokens": pl.Int64,
        "nll": pl.Float64,  # mean negative log-likelihood of a token, in nats
        "perplexity": pl.Float64,  # exp(nll)
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
        "metric": pl.String,  # bleu and chrf (0 to 100), exact (share), comet
        "sentences": pl.Int32,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        **_COMPARED,  # of value
    }
)
