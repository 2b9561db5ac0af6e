"""Rules for all tests: what runs together, and where a skipped test is a failure."""

import os
from collections.abc import Generator

import pytest

PROMISE = "GLOSSOGENESIS_REQUIRE"

SHARED = {
    "finished_features": "features",
    "finished_robustness": "robustness",
    "finished_study": "concepts",
}
"""Fixtures that take minutes and serve tests of several files, with the name of their group."""

LONGEST_FIRST = ("features", "faults", "cluster", "robustness", "concepts")


def group_of(item: pytest.Item) -> str:
    """Name the tests that run in one process: those of a shared fixture, a folder or a file."""
    for fixture, group in SHARED.items():
        if fixture in getattr(item, "fixturenames", ()):
            return group
    folder = item.path.parent
    is_unit = "unit" in folder.parts
    return str(item.path) if is_unit or folder.name not in LONGEST_FIRST else folder.name


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, which reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for several processes; those that take longest begin first."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    ranks = {group: rank for rank, group in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(group_of(item), len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get(PROMISE):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although {PROMISE} is set: {report.longrepr}"
    return report
