"""A real Slurm for these tests, and a small study that is run on it and without it."""

from collections.abc import Iterator

import pytest

from support.slurm.cluster_run import ClusterRun, start_run
from support.slurm.gpu_study import copy_without, new_tree
from support.slurm.local_slurm import LocalSlurm, running_slurm
from support.working_tree import WorkingTree


@pytest.fixture(scope="session")
def slurm() -> Iterator[LocalSlurm]:
    """A Slurm of these tests' own."""
    if reason := LocalSlurm.missing():
        pytest.skip(reason)
    with running_slurm() as slurm:
        yield slurm


@pytest.fixture(scope="session")
def demo_and_reference(
    slurm: LocalSlurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ClusterRun, WorkingTree]]:
    """The small study from nothing to its end, on Slurm and, meanwhile, without it."""
    folder = tmp_path_factory.mktemp("demo")
    tree = new_tree(folder / "tree")
    partitions = tree.root / "slurm" / "partitions.example.yaml"
    run = start_run(slurm, tree, environment={"SNAKEMAKE_SLURM_PARTITIONS": str(partitions)})
    try:
        reference = new_tree(folder / "reference")
        reference.snakemake("--cores", "2", "--show-failed-logs")
        yield run.wait(), reference
    finally:
        run.end()


@pytest.fixture(scope="session")
def demo(demo_and_reference: tuple[ClusterRun, WorkingTree]) -> ClusterRun:
    """The small study on Slurm; its partitions come from the repository's example."""
    return demo_and_reference[0]


@pytest.fixture(scope="session")
def reference(demo_and_reference: tuple[ClusterRun, WorkingTree]) -> WorkingTree:
    """The small study, run to its end on this machine; tests change only copies."""
    return demo_and_reference[1]


@pytest.fixture(scope="session")
def arrays_and_groups(
    slurm: LocalSlurm, reference: WorkingTree, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ClusterRun, ClusterRun]]:
    """Two runs at once that make the concepts of `tiny` again: as job arrays, and in a batch."""
    arguments = {"arrays": "--slurm-array-jobs all", "groups": "--profile slurm/grouped"}
    runs = []
    try:
        for name, argument in arguments.items():
            folder = tmp_path_factory.mktemp(name)
            tree = copy_without(reference, folder / "tree", "tiny")
            runs.append(start_run(slurm, tree, f"{argument} results/tables/concepts_accuracy.csv"))
        yield runs[0].wait(), runs[1].wait()
    finally:
        for run in runs:
            run.end()


@pytest.fixture(scope="session")
def arrays(arrays_and_groups: tuple[ClusterRun, ClusterRun]) -> ClusterRun:
    """The run in which every rule's jobs are one job array."""
    return arrays_and_groups[0]


@pytest.fixture(scope="session")
def groups(arrays_and_groups: tuple[ClusterRun, ClusterRun]) -> ClusterRun:
    """The run whose small GPU jobs are batched by `slurm/grouped`."""
    return arrays_and_groups[1]
