"""Table of how good the autoencoders are: measures, cross-entropy recovered, agreement of seeds.

One row per setup and language, and one for all tokens (`all`). What was not measured is null:
recovery where it is off, seeds where there is one, and what concerns the whole dictionary in rows
of a language.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.study.setups import SETUP_FACTS, require_columns, schema_of_setups

ALL = "all"
MEASURES = (
    *("l0", "explained_variance", "explained_variance_centred"),
    *("explained_variance_residual_stream", "mse", "nmse", "cosine", "l2_ratio"),
    "reconstruction_bias",
)
"""Measures of `quality.json` that every language has too."""

DISTRIBUTIONS = ("encoder_decoder_cosine", "decoder_self_similarity")
"""Of the dictionary; the table has their means."""

RECOVERED = {
    "tokens": "recovery_tokens",
    "ablation": "ablation",
    **{name: name for name in ("ce_clean", "ce_spliced", "ce_zero", "ce_mean")},
    **{name: name for name in ("recovered", "recovered_low", "recovered_high")},
}
"""Columns of the recovery table, and what they are called here."""

SEEDS = ("mmcs_ab", "mmcs_ba", "matched_cosine")
QUALITY_SCHEMA = schema_of_setups(
    {
        "language": pl.String,
        "held_out_tokens": pl.Int64,
        "space": pl.String,
        "explained_variance_formula": pl.String,
        **dict.fromkeys(MEASURES, pl.Float64),
        "latents": pl.Int64,
        "dead_share": pl.Float64,
        **dict.fromkeys(DISTRIBUTIONS, pl.Float64),
        "recovery_tokens": pl.Int64,
        "ablation": pl.String,
        **dict.fromkeys(list(RECOVERED.values())[2:], pl.Float64),
        "seed_pairs": pl.Int64,
        "seed_mmcs": pl.Float64,
        "seed_mmcs_minimum": pl.Float64,
        "seed_mmcs_maximum": pl.Float64,
        "seed_mmcs_chance": pl.Float64,
        "seed_matched_cosine": pl.Float64,
        "seed_matched_cosine_chance": pl.Float64,
    }
)

_LATER = (*RECOVERED.values(), *(name for name in QUALITY_SCHEMA if name.startswith("seed_")))


def quality_rows(quality: Mapping[str, Any], path: Path) -> pl.DataFrame:
    """Rows of one `quality.json`: all tokens first, then every language.

    Columns: language, held_out_tokens, space, explained_variance_formula, `MEASURES`; in the first
    row also latents, dead_share and `DISTRIBUTIONS`.

    Raises:
        StudyError: a measure is missing.

    """
    try:
        shared = {name: quality[name] for name in ("space", "explained_variance_formula")}
        parts = {ALL: quality, **quality["by_language"]}
        rows: list[dict[str, Any]] = [
            {"language": language, "held_out_tokens": part["tokens"]}
            | shared
            | {name: part[name] for name in MEASURES}
            for language, part in parts.items()
        ]
        rows[0] |= {name: quality[name] for name in ("latents", "dead_share")}
        rows[0] |= {name: quality[name]["mean"] for name in DISTRIBUTIONS}
    except KeyError as error:
        raise StudyError(
            f"{path}: no entry {error.args[0]!r}; remove the file and run the workflow again"
        ) from None
    return pl.DataFrame(rows, _part(*QUALITY_SCHEMA)).select(
        name for name in QUALITY_SCHEMA if name not in (*SETUP_FACTS, *_LATER)
    )


def recovery_rows(recovery: pl.DataFrame, layer: int, path: Path) -> pl.DataFrame:
    """Rows of one layer of a recovery table, named as in `QUALITY_SCHEMA`, by language.

    Raises:
        StudyError: a column is missing, or the layer.

    """
    require_columns(recovery, dict.fromkeys(("layer", "language", *RECOVERED)), path)
    rows = recovery.filter(layer=layer)
    if rows.is_empty():
        raise StudyError(
            f"{path}: no rows of layer {layer}; remove the file and run the workflow again"
        )
    schema = _part("language", *RECOVERED.values())
    return rows.select("language", *RECOVERED).rename(RECOVERED).cast(schema)


def seed_row(seeds: pl.DataFrame, path: Path) -> pl.DataFrame:
    """One row that sums up the pairs of seeds in a `seeds.parquet`.

    `seed_mmcs` is the mean over pairs and both directions, with the lowest and highest of them;
    `chance` is the same of dictionaries that have nothing in common.
    """
    chance = {name: f"{name}_chance" for name in SEEDS}
    require_columns(seeds, dict.fromkeys((*SEEDS, *chance.values()), pl.Float64), path)
    both = pl.concat_list("mmcs_ab", "mmcs_ba")
    mean_of_both = (pl.col("mmcs_ab_chance") + pl.col("mmcs_ba_chance")) / 2
    return seeds.select(
        language=pl.lit(ALL),
        seed_pairs=pl.len().cast(pl.Int64),
        seed_mmcs=both.list.mean().mean(),
        seed_mmcs_minimum=both.list.min().min(),
        seed_mmcs_maximum=both.list.max().max(),
        seed_mmcs_chance=mean_of_both.mean(),
        seed_matched_cosine=pl.col("matched_cosine").mean(),
        seed_matched_cosine_chance=pl.col("matched_cosine_chance").mean(),
    )


def joined_quality(
    quality: pl.DataFrame, recovery: pl.DataFrame | None, seeds: pl.DataFrame | None
) -> pl.DataFrame:
    """Rows of one setup in the columns of `QUALITY_SCHEMA`, without the facts of the setup."""
    joined = quality
    for part in (recovery, seeds):
        if part is not None:
            joined = joined.join(part, on="language", how="left", maintain_order="left")
    absent = [name for name in _LATER if name not in joined.columns]
    return joined.with_columns(
        pl.lit(None, QUALITY_SCHEMA[name]).alias(name) for name in absent
    ).select(name for name in QUALITY_SCHEMA if name not in SETUP_FACTS)


def _part(*names: str) -> pl.Schema:
    return pl.Schema({name: QUALITY_SCHEMA[name] for name in names})
