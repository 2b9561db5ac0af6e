"""What is done to jobs while they run does not change what comes out."""

from collections.abc import Iterator

import pytest

from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from support.slurm.cluster_run import ClusterRun, start_run
from support.slurm.gpu_study import STUDY, copy_without, results_of
from support.slurm.local_slurm import LocalSlurm
from support.working_tree import WorkingTree

pytestmark = pytest.mark.slow

HUNGRY = "extract_states tiny_first"
CANCELLED = "extract_states tiny_last"
REQUEUED = "extract_states twin_last"
CUT_OFF = "patch_translations tiny_last"
"""Running when its node loses power."""


@pytest.fixture(scope="module")
def study(reference: WorkingTree) -> Study:
    return load_study(reference.root / STUDY)


@pytest.fixture(scope="module")
def disturbed(
    slurm: LocalSlurm,
    reference: WorkingTree,
    study: Study,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ClusterRun]:
    """One run in which each of four jobs meets with a misfortune of its own."""
    tree = copy_without(reference, tmp_path_factory.mktemp("disturbed") / "tree", "tiny", "twin")
    run = start_run(
        slurm,
        tree,
        "results/tables/concepts_accuracy.csv",
        hungry="extract_states.py tiny/first",
        # With the memory of Snakemake itself, more than it asks for.
        hunger_mb=costs.states_cost(study, "tiny").requested_memory_mb(),
    )
    try:
        disturb = {CANCELLED: slurm.cancel, REQUEUED: slurm.requeue}
        while disturb:
            name = run.first_running(disturb)
            disturb.pop(name)(run.attempts(name)[-1].number)
        run.first_running([CUT_OFF])
        slurm.kill_slurmd()
        slurm.start_slurmd()
        yield run.wait()
    finally:
        run.end()


def test_the_results_are_those_of_an_undisturbed_run(disturbed: ClusterRun, reference: WorkingTree):
    assert results_of(disturbed.tree) == results_of(reference)


def test_a_job_that_runs_out_of_memory_is_tried_again_with_more(
    disturbed: ClusterRun, study: Study
):
    cost = costs.states_cost(study, "tiny")
    first, second = disturbed.attempts(HUNGRY)
    assert first.state in ("FAILED", "OUT_OF_MEMORY")
    assert second.state == "COMPLETED"
    assert [round(job.memory_mb) for job in (first, second)] == [
        cost.requested_memory_mb(1),
        cost.requested_memory_mb(2),
    ]
    assert [job.minutes for job in (first, second)] == [
        cost.runtime_minutes(1),
        cost.runtime_minutes(2),
    ]


def test_a_cancelled_job_is_submitted_again(disturbed: ClusterRun):
    first, second = disturbed.attempts(CANCELLED)
    assert (first.state, second.state) == ("CANCELLED", "COMPLETED")


def test_a_requeued_job_is_run_again_by_slurm(disturbed: ClusterRun):
    (job,) = disturbed.attempts(REQUEUED)
    assert job.state == "COMPLETED"
    assert job.restarts >= 1


def test_jobs_of_a_node_that_was_lost_are_run_again_by_slurm(disturbed: ClusterRun):
    (job,) = disturbed.attempts(CUT_OFF)
    assert (job.state, job.restarts) == ("COMPLETED", 1)
