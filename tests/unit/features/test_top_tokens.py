"""Most frequent tokens: equal to plain counting, also where candidates do not fit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from glossogenesis.features.firing import TokenCounts


def by_plain_counting(latents: np.ndarray, tokens: np.ndarray, number: int) -> list[tuple]:
    rows = []
    for feature in sorted(set(latents.tolist())):
        counted = Counter(tokens[latents == feature].tolist())
        best = sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
        rows += [(feature, token, count) for token, count in best[:number]]
    return rows


def skewed(seed: int, n: int = 60_000, n_latents: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    latents = generator.integers(0, n_latents, n)
    return latents, (generator.zipf(1.4, n) % 5000 + latents).astype(np.int32)


def test_few_tokens_are_counted_in_one_pass() -> None:
    latents, tokens = skewed(0)
    tokens %= 20
    counts = TokenCounts(7)
    for part in np.array_split(np.arange(len(latents)), 9):
        counts.add(latents[part], tokens[part])
    assert counts.exact
    found = zip(*(column.tolist() for column in counts.most_frequent(4)), strict=True)
    assert list(found) == by_plain_counting(latents, tokens, 4)


@pytest.mark.parametrize("seed", range(3))
def test_many_tokens_are_counted_again(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glossogenesis.features.firing._AT_LEAST_WAITING", 1000)
    latents, tokens = skewed(seed)
    counts = TokenCounts(7, places=32)
    parts = np.array_split(np.arange(len(latents)), 9)
    for part in parts:
        counts.add(latents[part], tokens[part])
    counts.most_frequent(1)
    assert not counts.exact
    for part in parts:
        counts.recount(latents[part], tokens[part])
    features, token_ids, found = counts.most_frequent(32)
    listed = set(zip(features.tolist(), token_ids.tolist(), found.tolist(), strict=True))
    assert len(listed) <= 7 * 32
    total = np.bincount(latents)
    expected = by_plain_counting(latents, tokens, 5000)
    # Every count is exact, and no token of more than a 33rd of the firings is missing.
    assert listed <= set(expected)
    assert {row for row in expected if row[2] > total[row[0]] / 33} <= listed


def test_nothing_fired() -> None:
    assert [column.size for column in TokenCounts(3).most_frequent(10)] == [0, 0, 0]
