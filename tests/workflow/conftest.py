"""A small study, run once for all tests of the workflow's behaviour."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from working_tree import WorkingTree, copy_of_repository


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """The small study, run to its end; tests read it and change only copies."""
    tree = copy_of_repository(tmp_path_factory.mktemp("finished") / "tree")
    tree.snakemake("--cores", "2", "--show-failed-logs")
    return tree


@pytest.fixture
def tree(finished_study: WorkingTree, tmp_path: Path) -> Iterator[WorkingTree]:
    """A copy of the finished study that a test may change."""
    copy = tmp_path / "tree"
    shutil.copytree(finished_study.root, copy)
    yield WorkingTree(copy)
    shutil.rmtree(copy)


@pytest.fixture(scope="session")
def finished_features(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """A small features study, run to its end; tests read it and change only copies."""
    root = copy_of_repository(tmp_path_factory.mktemp("features") / "tree").root
    tree = WorkingTree(root, "features.yaml")
    tree.snakemake("--cores", "2", "--show-failed-logs")
    return tree


@pytest.fixture
def features_tree(finished_features: WorkingTree, tmp_path: Path) -> Iterator[WorkingTree]:
    """A copy of the finished features study that a test may change."""
    copy = tmp_path / "tree"
    shutil.copytree(finished_features.root, copy)
    yield WorkingTree(copy, "features.yaml")
    shutil.rmtree(copy)


@pytest.fixture(scope="session")
def finished_robustness(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """A small robustness study, run to its end; tests read it and change only copies."""
    root = copy_of_repository(tmp_path_factory.mktemp("robustness") / "tree").root
    tree = WorkingTree(root, "robustness.yaml")
    tree.snakemake("--cores", "2", "--show-failed-logs")
    return tree


@pytest.fixture
def robustness_tree(finished_robustness: WorkingTree, tmp_path: Path) -> Iterator[WorkingTree]:
    """A copy of the finished robustness study that a test may change."""
    copy = tmp_path / "tree"
    shutil.copytree(finished_robustness.root, copy)
    yield WorkingTree(copy, "robustness.yaml")
    shutil.rmtree(copy)
