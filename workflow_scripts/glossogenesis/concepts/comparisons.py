"""Paired comparisons of settings and of checkpoints, each with its interval and test.

Two settings of one checkpoint, or two checkpoints in one setting, are given the same items, whose
expected concepts are drawn once for both. What is compared:

- `setting`: `seen` against what the same concepts reach without a patch (`src_unpatched`), and
  against patches of other sources; at every checkpoint. `tgt_unpatched` is no such reference: it
  expects another concept of the same item.
- `checkpoint`: a checkpoint against the one before it, in every setting.
- `phase`: the last checkpoint of a phase against the last of the phase before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import polars as pl

from glossogenesis.patching.pooled_tables import PAIR, pools_of
from glossogenesis.statistics.clustered import (
    ClusterSums,
    clustered_difference_interval,
    whole_sign_flip_p,
)
from glossogenesis.statistics.false_discovery import adjusted

LEVEL = 0.05
"""Expected share of false discoveries among the comparisons of a model that survive."""

COMPARED = "seen"
REFERENCES = ("src_unpatched", "tgt", "en_en", "copy")

COMPARISON_SCHEMA = pl.Schema(
    {
        "model": pl.String,
        "comparison": pl.String,  # setting, checkpoint or phase
        "pool": pl.String,  # null of a single pair
        "input_language": pl.String,  # null of a pool
        "output_language": pl.String,  # null of a pool over all output languages
        "start_layer": pl.Int32,
        "chosen_layers": pl.String,
        "setting": pl.String,
        "reference_setting": pl.String,
        "checkpoint": pl.String,
        "reference_checkpoint": pl.String,
        "step": pl.Int64,
        "tokens": pl.Int64,
        "phase": pl.Int32,
        "pairs": pl.Int64,
        "concepts": pl.Int64,
        "n": pl.Int64,
        "accuracy": pl.Float64,
        "reference_accuracy": pl.Float64,
        "difference": pl.Float64,
        "low": pl.Float64,  # null with a single concept
        "high": pl.Float64,
        "p": pl.Float64,  # null with a single concept
        "q": pl.Float64,
        "survives": pl.Boolean,
    }
)

_ITEM = ("item", *PAIR, "setting", "start_layer", "chosen_layers")
_FACTS = ("model", "checkpoint", "step", "tokens", "phase")
_COUNTS = ("n", "both", "lost", "gained", "neither")
_ROW = (
    *("comparison", "pool", *PAIR, "start_layer", "chosen_layers"),
    *("setting", "reference_setting"),
)


def comparison_table(
    checkpoints: Iterable[pl.DataFrame], pivot: str, unseen: Collection[str]
) -> pl.DataFrame:
    """All comparisons of one model: rows of `COMPARISON_SCHEMA`.

    Pairs are compared one by one and in the pools of `pools_of`. `q` is p corrected over all rows
    of the model, that is over checkpoints, settings, start layers, pairs and pools (Benjamini and
    Hochberg 1995); a comparison `survives` where q is at most `LEVEL`.

    Args:
        checkpoints: rows of each, as in `accuracy_table`, in the order of training.
        pivot: the pivot language.
        unseen: languages that pretraining never saw.
    """
    parts = [pl.DataFrame(schema=COMPARISON_SCHEMA)]
    for comparison, answers, reference in _sides(checkpoints):
        pools = pools_of(answers, pivot, unseen)
        parts.append(_compared(comparison, answers, reference, pools))
    table = pl.concat(parts)
    q = pl.Series(adjusted(table["p"].fill_null(np.nan).to_numpy()), dtype=pl.Float64)
    return table.with_columns(q=q.fill_nan(None)).with_columns(survives=pl.col("q") <= LEVEL)


def _sides(
    checkpoints: Iterable[pl.DataFrame],
) -> Iterator[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """What is compared, its answers and those of its reference; holds three checkpoints at most."""
    before = end_of_phase = None
    for rows in checkpoints:
        answers = rows.filter(pl.col("correct").is_not_null(), pl.col("setting") != "self").select(
            *_FACTS, *_ITEM, "expected_concept", "correct"
        )
        if answers.is_empty():
            continue
        yield "setting", answers.filter(setting=COMPARED), _references(answers)
        if before is not None:
            yield "checkpoint", answers, before
            if before["phase"][0] != answers["phase"][0]:
                if end_of_phase is not None:
                    yield "phase", before, end_of_phase
                end_of_phase = before
        before = answers
    if before is not None and end_of_phase is not None:
        yield "phase", before, end_of_phase


def _references(answers: pl.DataFrame) -> pl.DataFrame:
    """What `seen` is compared with, as answers of that setting at the same start layer."""
    places = answers.filter(setting=COMPARED).select("start_layer", "chosen_layers").unique()
    unpatched = answers.filter(setting=REFERENCES[0]).drop("start_layer", "chosen_layers")
    return pl.concat(
        [
            answers.filter(pl.col("setting").is_in(REFERENCES[1:])),
            unpatched.join(places, how="cross").select(answers.columns),
        ]
    )


def _compared(
    comparison: str, answers: pl.DataFrame, reference: pl.DataFrame, pools: pl.DataFrame
) -> pl.DataFrame:
    """Rows of one comparison of the same items; q and survives are null."""
    shared = [name for name in _ITEM if name != "setting" or comparison != "setting"]
    pairs = answers.join(
        reference.select(*shared, reference_setting="setting", reference="correct"),
        on=shared,
        nulls_equal=True,
    )
    now, then = pl.col("correct"), pl.col("reference")
    counted = pairs.group_by(
        *PAIR, "start_layer", "chosen_layers", "setting", "reference_setting", "expected_concept"
    ).agg(
        n=pl.len().cast(pl.Int64),
        **{
            name: cell.cast(pl.Int64).sum()
            for name, cell in {
                "both": now & then,
                "lost": ~now & then,
                "gained": now & ~then,
                "neither": ~now & ~then,
            }.items()
        },
    )
    alone = counted.with_columns(pool=pl.lit(None, pl.String))
    pooled = counted.join(pools, on=["setting", *PAIR]).with_columns(
        input_language=pl.lit(None, pl.String), output_language="pooled_output"
    )
    both = pl.concat([alone, pooled.select(alone.columns)])
    table = _tested(both.with_columns(comparison=pl.lit(comparison))).join(
        _pairs_of_pools(pools),
        on=["pool", "output_language", "setting"],
        how="left",
        nulls_equal=True,
    )
    facts = answers.select(_FACTS).head(1)
    return (
        table.join(facts, how="cross")
        .with_columns(
            pl.col("pairs").fill_null(1),
            reference_checkpoint=pl.lit(next(iter(reference["checkpoint"]), None), pl.String),
            q=pl.lit(None, pl.Float64),
            survives=pl.lit(None, pl.Boolean),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in COMPARISON_SCHEMA.items())
    )


def _pairs_of_pools(pools: pl.DataFrame) -> pl.DataFrame:
    """How many language pairs each pool has: pool, output_language, setting, pairs."""
    return pools.group_by("pool", pl.col("pooled_output").alias("output_language"), "setting").agg(
        pairs=pl.len().cast(pl.Int64)
    )


def _tested(counted: pl.DataFrame) -> pl.DataFrame:
    """Accuracies, difference, interval and p of each row from the counts of its concepts."""
    gain = pl.col("gained") - pl.col("lost")
    table = (
        counted.group_by(*_ROW, "expected_concept")
        .agg(pl.col(_COUNTS).sum())
        .group_by(*_ROW)
        .agg(
            pl.col(_COUNTS).sum(),
            concepts=pl.len().cast(pl.Int64),
            gain=gain.sum(),
            squares=(gain**2).sum(),
            products=(gain * pl.col("n")).sum(),
            n_squares=(pl.col("n") ** 2).sum(),
            gains=gain.sort(),
        )
        .sort(*_ROW)
    )
    summed = ("concepts", "gain", "n", "squares", "products", "n_squares")
    sums = ClusterSums(*(table[name].to_numpy().astype(np.float64) for name in summed))
    cells = tuple(table[name].to_numpy() for name in _COUNTS[1:])
    low, high = (
        pl.Series(end, dtype=pl.Float64).fill_nan(None)
        for end in clustered_difference_interval(sums, cells)
    )
    p = [whole_sign_flip_p(gains) if len(gains) > 1 else None for gains in table["gains"].to_list()]
    return table.with_columns(
        accuracy=(pl.col("both") + pl.col("gained")) / pl.col("n"),
        reference_accuracy=(pl.col("both") + pl.col("lost")) / pl.col("n"),
        difference=pl.col("gain") / pl.col("n"),
        low=low,
        high=high,
        p=pl.Series(p, dtype=pl.Float64),
    )
