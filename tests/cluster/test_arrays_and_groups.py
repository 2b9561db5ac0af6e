"""Jobs of one rule as a job array, and as a batch on one GPU."""

import pytest

from glossogenesis.study.loading import load_study
from glossogenesis.workflow import costs
from support.slurm.cluster_run import ClusterRun
from support.slurm.gpu_study import CHECKPOINTS, STUDY, results_of
from support.working_tree import WorkingTree

pytestmark = pytest.mark.slow


def test_job_arrays_end_in_the_same_bytes(arrays: ClusterRun, reference: WorkingTree):
    assert results_of(arrays.tree) == results_of(reference)


def test_jobs_that_are_ready_together_are_one_array_with_a_gpu_a_task(arrays: ClusterRun):
    tasks = arrays.jobs("extract_states")
    array = {job.identity.partition("_")[0] for job in tasks}
    assert len(array) == 1
    assert {job.identity for job in tasks} == {f"{min(array)}_1", f"{min(array)}_2"}
    programs = [program for program in arrays.programs() if program.name == "extract_states"]
    assert [len(program.job.gpus) for program in programs] == [1] * len(CHECKPOINTS)
    assert [program.visible_gpus for program in programs] == [
        program.job.gpus for program in programs
    ]


def test_groups_end_in_the_same_bytes(groups: ClusterRun, reference: WorkingTree):
    assert results_of(groups.tree) == results_of(reference)


@pytest.mark.parametrize("rule", ["extract_states", "patch_translations"])
def test_a_group_asks_for_one_gpu_and_the_time_of_all_its_jobs(groups: ClusterRun, rule: str):
    programs = [program for program in groups.programs() if program.name == rule]
    assert len(programs) == len(CHECKPOINTS)
    (batch,) = {program.job.identity for program in programs}
    study = load_study(groups.tree.root / STUDY)
    cost = costs.states_cost if rule == "extract_states" else costs.patching_cost
    job, one = groups.slurm.job(batch), cost(study, "tiny")
    assert [len(program.job.gpus) for program in programs] == [1] * len(CHECKPOINTS)
    assert job.gpus_asked_for == 1
    assert round(job.memory_mb) == one.requested_memory_mb()
    assert job.minutes == len(CHECKPOINTS) * one.runtime_minutes()
