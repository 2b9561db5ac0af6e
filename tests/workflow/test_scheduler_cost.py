"""What a run's own process takes after 2,000 jobs, and that a limit on submissions holds."""

import time
from pathlib import Path

import pytest

from scheduler import CORES, Cost, make_naps, measure, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["machine", "slurm"])
def cost(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cost:
    return measure(tmp_path_factory.mktemp("naps"), request.param, jobs=2000)


def test_a_run_sleeps_while_its_jobs_run(cost: Cost):
    assert cost.idle_share <= 0.03


def test_finished_jobs_leave_no_threads(cost: Cost):
    # Snakemake keeps a thread for each core that has had a job, and a few of its own.
    assert cost.most_threads <= CORES + 10


def test_a_run_ends_with_its_last_job(cost: Cost):
    assert cost.seconds_at_end < 10


def test_a_limit_on_submissions_holds(tmp_path: Path):
    # Twelve jobs at once are five, five and two.
    made = times_of_naps(tmp_path, "5/6s")
    assert made[-1] - made[0] > 8


def test_a_run_does_not_wait_for_its_limit_when_no_job_does(tmp_path: Path):
    made = times_of_naps(tmp_path, "12/1h")
    assert time.time() - made[-1] < 30


def times_of_naps(root: Path, limit: str) -> list[float]:
    """Run twelve jobs under a limit; return when each ended."""
    make_naps(root, jobs=12)
    naps = [f"naps/{number}" for number in range(12)]
    command = ["snakemake", "--cores", "12", "--max-jobs-per-timespan", limit, *naps]
    with (root / "printed").open("w") as printed:
        assert start(root, command, printed).wait(timeout=300) == 0
    return sorted((root / nap).stat().st_mtime for nap in naps)
