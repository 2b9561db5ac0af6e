"""What a real Slurm gives the jobs of `snakemake --profile slurm`, and what comes out."""

from dataclasses import dataclass
from itertools import combinations

import pytest

from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from support.slurm.cluster_run import ClusterRun
from support.slurm.gpu_study import CHECKPOINTS, STUDY, results_of
from support.working_tree import WorkingTree

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Request:
    """What a rule asks for at its first attempt."""

    gpus: int
    cpus: int
    memory_mb: int
    minutes: int


@pytest.fixture(scope="module")
def study(reference: WorkingTree) -> Study:
    return load_study(reference.root / STUDY)


def requests(study: Study) -> dict[str, Request]:
    """Return what jobs of each kind ask for, from the costs that rules ask by."""

    def of(cost: costs.Cost, cpus: int = 1) -> Request:
        return Request(cost.gpus, cpus, cost.requested_memory_mb(), cost.runtime_minutes())

    return {
        "pretrain_model tiny": of(costs.pretraining_cost(study, "tiny"), cpus=2),
        "fetch_checkpoint tiny_first": of(costs.checkpoint_cost(study, "tiny")),
        "write_prompts tiny": Request(0, 1, 4000, 30),
        "extract_states tiny_first": of(costs.states_cost(study, "tiny")),
        "extract_states twin_last": of(costs.states_cost(study, "twin"), cpus=2),
        "patch_translations tiny_last": of(costs.patching_cost(study, "tiny")),
        "patch_translations twin_last": of(costs.patching_cost(study, "twin"), cpus=2),
        "tabulate_concepts": Request(0, 1, 4000, 60),
        "plot_concepts": Request(0, 1, 2000, 15),
    }


def test_the_results_are_those_of_a_run_without_slurm(demo: ClusterRun, reference: WorkingTree):
    assert results_of(demo.tree) == results_of(reference)


def test_every_job_went_to_slurm_once_and_was_given_enough(demo: ClusterRun):
    names = [job.name for job in demo.jobs()]
    assert len(names) == len(set(names))
    assert {job.state for job in demo.jobs()} == {"COMPLETED"}
    assert {f"extract_states tiny_{checkpoint}" for checkpoint in CHECKPOINTS} <= set(names)
    assert len(names) == len(demo.programs())


def test_slurm_gives_what_rules_ask_for(demo: ClusterRun, study: Study):
    """Read with scontrol by the jobs themselves, while they ran."""
    running = {program.job.name: program.job for program in demo.programs()}
    for name, asked in requests(study).items():
        job = running[name]
        given = Request(len(job.gpus), job.cpus, round(job.memory_mb), job.minutes)
        assert job.state == "RUNNING"
        assert (name, given) == (name, asked)


def test_jobs_see_the_gpus_that_they_were_given_and_no_others(demo: ClusterRun):
    for program in demo.programs():
        assert program.visible_gpus == program.job.gpus, program.job.name
        assert len(program.job.gpus) == program.job.gpus_asked_for, program.job.name


def test_a_gpu_is_given_to_one_job_at_a_time(demo: ClusterRun):
    gpus = {program.job.identity: set(program.job.gpus) for program in demo.programs()}
    on_gpus = [job for job in demo.jobs() if gpus[job.identity]]
    assert len(on_gpus) == 1 + 2 * (len(CHECKPOINTS) + 1)
    for one, other in combinations(on_gpus, 2):
        in_turn = one.ended <= other.started or other.ended <= one.started
        assert in_turn or not gpus[one.identity] & gpus[other.identity], (one.name, other.name)


def test_the_partitions_of_the_example_are_chosen_by_gpus(demo: ClusterRun):
    for job in demo.jobs():
        assert job.partition == ("gpu" if job.gpus_asked_for else "cpu"), job.name
