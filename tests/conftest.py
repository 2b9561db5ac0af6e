"""Rules for all tests: where a complete machine is promised, a skipped test is a failure."""

import os
from collections.abc import Generator

import pytest

PROMISE = "GLOSSOGENESIS_REQUIRE"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get(PROMISE):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although {PROMISE} is set: {report.longrepr}"
    return report
