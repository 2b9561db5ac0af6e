"""Two drivers on one folder of results: the second says so and stops."""

import time

import pytest

from support.faults.fault_study import TABLES, FaultTree, kill, options


@pytest.mark.slow
def test_a_second_driver_stops_and_the_first_goes_on(fresh: FaultTree) -> None:
    first = fresh.start(*options(TABLES))
    end = time.monotonic() + 120
    while not (fresh.root / "logs" / "pretrain_model" / "tiny.log").exists():
        assert time.monotonic() < end and first.poll() is None, fresh.printed()
        time.sleep(0.05)
    second = fresh.start(*options(TABLES), "--nolock")
    assert second.wait() != 0
    assert f"process {first.pid} on " in fresh.printed()
    assert "is running a study here; wait until it ends, or stop it" in fresh.printed()
    assert first.poll() is None
    kill(first, group=True)
    fresh.wait_for_orphans()
