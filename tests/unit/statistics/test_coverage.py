"""Every kind of interval covers 95 % of known truths, and every kind of test refutes 5 %.

`pytest -m slow -s tests/unit/statistics/test_coverage.py` prints the table of rates.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from support.coverage_cases import INTERVALS, TESTS, Case, independent_share

COVERAGE = (0.93, 0.97)
FALSE_POSITIVES = (0.03, 0.07)
CASES = [(case, COVERAGE) for case in INTERVALS] + [(case, FALSE_POSITIVES) for case in TESTS]
NAMES = [case.name for case, _ in CASES]


def rate(case: Case, trials: int) -> float:
    """Share of trials; the same in every run."""
    return float(np.mean(case.draw(np.random.default_rng(zlib.crc32(case.name.encode())), trials)))


def check(found: float, bounds: tuple[float, float], trials: int) -> None:
    """Within bounds, but for twice the standard error of so many trials."""
    error = 2 * np.sqrt(0.05 * 0.95 / trials)
    assert bounds[0] - error <= found <= bounds[1] + error


@pytest.mark.parametrize(("case", "bounds"), CASES, ids=NAMES)
def test_rates_are_within_bounds(case: Case, bounds: tuple[float, float]) -> None:
    check(rate(case, case.trials), bounds, case.trials)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "bounds"), CASES, ids=NAMES)
def test_rates_of_many_trials_are_within_bounds(case: Case, bounds: tuple[float, float]) -> None:
    trials = 5 * case.trials
    found = rate(case, trials)
    print(f"\n| {case.name} | {found:.3f} | {trials} |")
    check(found, bounds, trials)


def test_answers_about_concepts_are_not_independent() -> None:
    """The bounds can fail: what was the default covers far less."""
    assert np.mean(independent_share(np.random.default_rng(0), 2000)) < 0.89
