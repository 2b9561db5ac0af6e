"""Rules for all tests: what runs together, and where a skipped test is a failure."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

PROMISE = "GLOSSOGENESIS_REQUIRE"

LONGEST_FIRST = ("cluster", "faults", "workflow")
"""Folders whose tests share studies that take minutes: each is for one process."""


class OneProcessAFolder(LoadScopeScheduling):
    """Divides tests among processes: the slow folders as a whole, all others by file."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """Name what runs in one process: the slow folder, or else the file of a test."""
    file = nodeid.partition("::")[0]
    folder = Path(file).parent.name
    return folder if folder in LONGEST_FIRST else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return OneProcessAFolder(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest."""
    ranks = {folder: rank for rank, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(scope_of(item.nodeid), len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get(PROMISE):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although {PROMISE} is set: {report.longrepr}"
    return report
