"""Small studies, each run once for all tests of the workflow's behaviour."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.working_tree import WorkingTree, copy_of_repository


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """The small study, run to its end; tests read it and change only copies."""
    return finished(tmp_path_factory, "small.yaml")


@pytest.fixture(scope="session")
def finished_features(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """A small features study, run to its end; tests read it and change only copies."""
    return finished(tmp_path_factory, "features.yaml")


@pytest.fixture(scope="session")
def finished_robustness(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """A small robustness study, run to its end; tests read it and change only copies."""
    return finished(tmp_path_factory, "robustness.yaml")


@pytest.fixture
def tree(finished_study: WorkingTree, tmp_path: Path) -> Iterator[WorkingTree]:
    """A copy of the finished study that a test may change."""
    with copy_of(finished_study, tmp_path) as copy:
        yield copy


@pytest.fixture
def features_tree(finished_features: WorkingTree, tmp_path: Path) -> Iterator[WorkingTree]:
    """A copy of the finished features study that a test may change."""
    with copy_of(finished_features, tmp_path) as copy:
        yield copy


@pytest.fixture
def robustness_tree(finished_robustness: WorkingTree, tmp_path: Path) -> Iterator[WorkingTree]:
    """A copy of the finished robustness study that a test may change."""
    with copy_of(finished_robustness, tmp_path) as copy:
        yield copy


def finished(factory: pytest.TempPathFactory, study: str) -> WorkingTree:
    """A copy of the repository in which a study has been run to its end."""
    root = copy_of_repository(factory.mktemp(Path(study).stem) / "tree").root
    tree = WorkingTree(root, study)
    tree.snakemake("--cores", "2", "--show-failed-logs")
    return tree


@contextmanager
def copy_of(original: WorkingTree, folder: Path) -> Iterator[WorkingTree]:
    """A copy of a finished study in `folder`, removed at the end."""
    copy = WorkingTree(folder / "tree", original.study)
    shutil.copytree(original.root, copy.root)
    yield copy
    shutil.rmtree(copy.root)
