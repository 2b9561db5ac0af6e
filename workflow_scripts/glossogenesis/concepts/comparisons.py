"""Paired comparisons of settings, checkpoints and trainings, and the best start layer.

Two settings of one checkpoint, or two checkpoints in one setting, are given the same items, whose
expected concepts are drawn once for both. What is compared:

- `setting`: `seen` against what the same concepts reach without a patch (`src_unpatched`), and
  against patches of other sources; at every checkpoint. `tgt_unpatched` is no such reference: it
  expects another concept of the same item.
- `checkpoint`: a checkpoint against the one before it, in every setting.
- `phase`: the last checkpoint of a phase against the last of the phase before.

What one training shows at a checkpoint may be its own. Where a study has several
(`pretrain.NAME.seeds`, each with its rows in the sheet), every comparison is put together over
them: the mean of their differences, with the variance between trainings as its error and that over
concepts added (`statistics.clustered`).

The layer with the highest accuracy is the best one partly by luck, and its accuracy on the answers
that it was chosen by is too high. So concepts are halved: each half chooses a layer, and what is
reported of a half is what it answers at the layer that the other half chose (cross-fitting:
Chernozhukov et al. 2018, The Econometrics Journal 21:C1). Given the choices, the answers are as of
any layer, and so are their intervals.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from glossogenesis.concepts.tables import PAIR, TRANSLATION, pools_of
from glossogenesis.statistics.clustered import (
    ClusterSums,
    adjusted,
    clustered_difference_interval,
    mean_over_runs,
    variance_of_interval,
    whole_sign_flip_p,
)

LEVEL = 0.05
"""Expected share of false discoveries among the comparisons of a model that survive."""

COMPARED = "seen"
REFERENCES = ("src_unpatched", "tgt", "en_en", "copy")

COMPARISON_SCHEMA = pl.Schema(
    {
        "model": pl.String,
        "comparison": pl.String,
        "pool": pl.String,
        "input_language": pl.String,
        "output_language": pl.String,
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
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
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

_OF_ONE_TRAINING = ("chosen_layers", "n", "accuracy", "reference_accuracy")
TRAININGS_SCHEMA = pl.Schema(
    {name: dtype for name, dtype in COMPARISON_SCHEMA.items() if name not in _OF_ONE_TRAINING}
    | {"trainings": pl.Int64}
)
_MEASURED = ("concepts", "difference", "low", "high", "p", "q", "survives", "trainings")
_KEYS = [name for name in TRAININGS_SCHEMA if name not in ("model", *_MEASURED)]

CHOSEN_BY = ("seen", "tgt", "en_en", "copy")
"""Settings that can choose; the first that was run does."""


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


def trainings_table(
    comparisons: pl.DataFrame, trainings: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """Comparisons over trainings: rows of `TRAININGS_SCHEMA`, of what at least two trainings have.

    q corrects p over all rows of a model, by Benjamini and Hochberg (1995).

    Args:
        comparisons: rows of `COMPARISON_SCHEMA` of all models.
        trainings: the models that are trainings of each, itself the first, by its name.
    """
    parts = [pl.DataFrame(schema=TRAININGS_SCHEMA)]
    for model, names in trainings.items():
        rows = []
        of_model = comparisons.filter(pl.col("model").is_in(list(names)))
        for key, part in of_model.group_by(_KEYS, maintain_order=True):
            if part.height < 2:
                continue
            found = mean_over_runs(
                part["difference"].to_numpy(),
                within=variance_of_interval(part["low"].to_numpy(), part["high"].to_numpy()),
                items=min(part["concepts"].to_list()),
            )
            cells = dict(zip(_KEYS, key, strict=True)) | {"model": model, "trainings": part.height}
            measured = {"difference": found.value, "low": found.low, "high": found.high}
            concepts = {"concepts": min(part["concepts"].to_list())}
            rows.append(cells | measured | concepts | {"p": found.p, "q": None, "survives": None})
        table = pl.DataFrame(rows, TRAININGS_SCHEMA).with_columns(pl.col("p").fill_nan(None))
        q = adjusted(table["p"].fill_null(float("nan")).to_numpy())
        corrected = table.with_columns(q=pl.Series(q, dtype=pl.Float64).fill_nan(None))
        parts.append(corrected.with_columns(survives=pl.col("q") <= LEVEL))
    return pl.concat(parts)


@dataclass(frozen=True)
class ChosenLayers:
    """Two halves of the concepts, and the start layer that is reported of each."""

    first_half: frozenset[str]
    of_first: int
    """Chosen on the second half."""
    of_second: int
    """Chosen on the first half."""

    @property
    def name(self) -> str:
        """Both layers, as tables show them."""
        return f"{self.of_first}|{self.of_second}"


def choose_layers(
    rows: pl.DataFrame, pivot: str, unseen: Collection[str], seed: int
) -> ChosenLayers | None:
    """Halve the concepts and let each half choose; None where nothing was patched and answered.

    Each half chooses the start layer of the highest accuracy over the pool `translation`, the
    lowest of equals, in the first of `CHOSEN_BY` that was run. `rows` are those of the model's last
    checkpoint, as `patching.parquet` has them; `seed` draws the halves.
    """
    answered = rows.filter(pl.col("correct").is_not_null(), pl.col("start_layer").is_not_null())
    setting = next((name for name in CHOSEN_BY if name in set(answered["setting"])), None)
    if setting is None:
        return None
    pools = pools_of(rows, pivot, unseen).filter(pool=TRANSLATION, setting=setting)
    # Where no two different languages were patched, copying chooses.
    counted = answered.filter(setting=setting)
    pooled = counted.join(pools, on=["input_language", "output_language"], how="semi")
    counted = pooled if pooled.height else counted
    concepts = answered["expected_concept"].unique().sort().to_list()
    order = np.random.default_rng(seed).permutation(len(concepts))
    first = frozenset(concepts[place] for place in order[: (len(concepts) + 1) // 2].tolist())
    in_first = pl.col("expected_concept").is_in(sorted(first))
    layers = [
        best_layer(part if part.height else counted)
        for part in (counted.filter(~in_first), counted.filter(in_first))
    ]
    return ChosenLayers(first, *layers)


def best_layer(answers: pl.DataFrame) -> int:
    """The start layer of the highest share of correct answers, the lowest of equals."""
    shares = answers.group_by("start_layer").agg(pl.col("correct").mean())
    return int(shares.sort("correct", "start_layer", descending=[True, False])["start_layer"][0])


def rows_at_chosen(rows: pl.DataFrame, chosen: ChosenLayers) -> pl.DataFrame:
    """Patched rows, each at the layer that the other half of the concepts chose.

    Their `start_layer` is null and their `chosen_layers` named. `self`, which expects the target
    concept and must change nothing, has none.
    """
    in_first = pl.col("expected_concept").is_in(sorted(chosen.first_half))
    layer = pl.when(in_first).then(chosen.of_first).otherwise(chosen.of_second)
    return rows.filter(pl.col("start_layer") == layer, pl.col("setting") != "self").with_columns(
        start_layer=pl.lit(None, pl.Int32), chosen_layers=pl.lit(chosen.name)
    )
