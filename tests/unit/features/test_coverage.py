"""Simulated: intervals hold the truth as often as they say, and measures at one number of examples
do not depend on how many there were."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from glossogenesis.features.examples import Examples
from glossogenesis.features.firing import TOKEN_IDS
from glossogenesis.features.measures import TokenTypes, meaning_entropies, monosemanticity
from glossogenesis.features.tables import HISTOGRAM_SCHEMA, _binned, monosemanticity_table
from glossogenesis.statistics.intervals import Bootstrap, with_shares
from glossogenesis.study.setups import DEPTH_FACTS

RUNS = 600


@pytest.mark.parametrize(("share", "features"), [(0.14, 350), (0.7, 72)])
def test_a_share_of_labels_is_covered(share: float, features: int) -> None:
    hits = np.random.default_rng(0).binomial(features, share, 4000)
    rows = with_shares(pl.DataFrame({"hits": hits, "n": [features] * len(hits)}), "hits", "n")
    held = ((rows["low"] <= share) & (share <= rows["high"])).mean()
    assert 0.93 <= held <= 0.97


def test_a_mean_monosemanticity_is_covered() -> None:
    # Half of the features have a single token, as in the demo; the others vary.
    generator = np.random.default_rng(1)
    histograms, truth = [], 0.5 * 1 + 0.5 * 2 / 5
    for _ in range(RUNS):
        values = np.where(generator.random(120) < 0.5, 1.0, generator.beta(2, 3, 120))
        counts, sums = _binned(values)
        facts = dict.fromkeys(DEPTH_FACTS) | {"layer": 0, "label": "all"}
        histograms.append(
            facts
            | {"subset": "all", "dictionary": 120, "singles": int((values == 1).sum())}
            | {"counts": counts, "sums": sums}
        )
    schema = pl.Schema({**DEPTH_FACTS, **HISTOGRAM_SCHEMA})
    table = monosemanticity_table(pl.DataFrame(histograms, schema), Bootstrap(500)).filter(layer=0)
    assert table.height == RUNS
    held = ((table["low"] <= truth) & (truth <= table["high"])).mean()
    assert 0.93 <= held <= 0.97


def test_features_that_fire_rarely_and_often_are_measured_alike() -> None:
    # One distribution of eight tokens, of which two mean the same; 10 examples of some features and
    # 200 of the others.
    generator = np.random.default_rng(2)
    unit = np.eye(8, dtype=np.float32)
    unit[1] = unit[0]
    available = np.repeat([10, 200], 400)
    tokens = np.zeros((800, 200), TOKEN_IDS)
    tokens["token_id"] = generator.choice(8, (800, 200), p=[0.3, 0.3, *[0.4 / 6] * 6])
    every = Examples(tokens, np.ones((800, 200), np.float32), available, available)

    def mean_by_size(examples: Examples) -> tuple[float, float]:
        types = TokenTypes.of(examples)
        values = monosemanticity(
            types.entropies(), meaning_entropies(types, unit, "average", [0.5])[0.5]
        )
        return float(values[:400].mean()), float(values[400:].mean())

    rare, often = mean_by_size(every)
    assert rare - often > 0.03  # as long as each is measured with all that it has
    rare, often = mean_by_size(every.exactly(10))
    assert abs(rare - often) < 0.02
