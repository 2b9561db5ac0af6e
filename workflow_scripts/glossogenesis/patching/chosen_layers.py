"""The best start layer, chosen on some concepts and reported on others.

The layer with the highest accuracy is the best one partly by luck, and its accuracy on the answers
that it was chosen by is too high. So concepts are halved: each half chooses a layer, and what is
reported of a half is what it answers at the layer that the other half chose (cross-fitting:
Chernozhukov et al. 2018, The Econometrics Journal 21:C1). Given the choices, the answers are as of
any layer, and so are their intervals.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from glossogenesis.patching.pooled_tables import TRANSLATION, pools_of

CHOSEN_BY = ("seen", "tgt", "en_en", "copy")
"""Settings that can choose; the first that was run does."""


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
