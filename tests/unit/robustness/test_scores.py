"""Scores of predictions with known answers."""

from __future__ import annotations

import pytest

from glossogenesis.robustness.scores import chance_of, scores_of


def test_scores_of_names_by_hand() -> None:
    labels = ["a", "a", "a", "b", "c", "c"]
    predicted = ["a", "a", "b", "b", "a", "a"]
    scores = scores_of(labels, predicted)
    assert scores.accuracy == pytest.approx(3 / 6)
    # a: precision 2/4, recall 2/3; b: 1/2 and 1; c is never predicted.
    assert scores.macro_f1 == pytest.approx((4 / 7 + 2 / 3 + 0) / 3)


def test_ids_score_as_names_do() -> None:
    assert scores_of([0, 1, 1], [0, 1, 0]) == scores_of(["a", "b", "b"], ["a", "b", "a"])


def test_chance_is_the_share_of_the_most_frequent_label() -> None:
    assert chance_of(["b", "a", "b", "c"]) == 0.5
