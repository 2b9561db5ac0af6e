"""Which examples of a feature are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from glossogenesis.features.examples import ExampleFinder, Examples
from glossogenesis.features.firing import TOKEN_IDS, FiredBlock

N_FEATURES = 40


def blocks(n_contexts: int, cut: int) -> list[FiredBlock]:
    """Contexts of one token each on which every feature fires, some more than others."""
    made = []
    for first in range(0, n_contexts, cut):
        contexts = np.arange(first, min(first + cut, n_contexts))
        tokens = np.zeros(len(contexts), TOKEN_IDS)
        tokens["context"] = contexts
        rows, latents = np.nonzero(contexts[:, None] % (1 + np.arange(N_FEATURES) % 3) == 0)
        made.append(FiredBlock(rows, latents, np.ones(len(rows), np.float32), tokens))
    return made


def found(n_contexts: int, *, cut: int = 7, limit: int = 5, seed: int = 0) -> Examples:
    finder = ExampleFinder(np.ones(N_FEATURES, np.float32), 0.7, limit, seed)
    for block in blocks(n_contexts, cut):
        finder.add(block)
    return finder.found()


def contexts_of(examples: Examples) -> list[list[int]]:
    return [
        row[:count].tolist()
        for row, count in zip(examples.tokens["context"], examples.counts, strict=True)
    ]


def test_a_fixed_number_is_drawn_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(100, cut=100)
    assert whole.counts.tolist() == [5] * N_FEATURES
    assert whole.available.tolist() == [-(-100 // (1 + f % 3)) for f in range(N_FEATURES)]
    for feature, contexts in enumerate(contexts_of(whole)):
        assert len(set(contexts)) == 5
        assert all(context % (1 + feature % 3) == 0 for context in contexts)
    # However the corpus is cut, and however many wait for a place.
    monkeypatch.setattr("glossogenesis.features.examples._AT_LEAST_WAITING", 1)
    assert contexts_of(found(100, cut=3)) == contexts_of(whole)


def test_a_smaller_draw_is_the_beginning_of_a_larger_one() -> None:
    larger, smaller = found(60, limit=30), found(60, limit=8)
    assert contexts_of(larger.drawn(8)) == contexts_of(smaller)
    exactly = larger.exactly(25)
    assert exactly.counts.tolist() == [25 if n >= 25 else 0 for n in larger.available]
    assert set(exactly.features.tolist()) == set(np.flatnonzero(exactly.counts).tolist())


def test_every_example_is_drawn_equally_often() -> None:
    counts = np.zeros((3, 30))
    for seed in range(200):
        drawn = found(30, limit=3, seed=seed)
        for feature, contexts in enumerate(contexts_of(drawn)):
            np.add.at(counts[feature % 3], contexts, 1)
    for step, row in enumerate(counts, start=1):
        there = row[::step]
        expected = row.sum() / len(there)
        # Means of thousands of draws: the largest of 30 deviations is below 4 standard errors.
        assert abs(there - expected).max() < 4 * np.sqrt(expected)
        assert row.sum() == there.sum()
    assert contexts_of(found(30, seed=1)) != contexts_of(found(30, seed=2))
