"""The study of these tests, run once without disturbance."""

from pathlib import Path

import pytest

from support.faults.fault_study import TABLES, FaultTree, artifacts, blank_copy_of, fresh_tree


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> FaultTree:
    """The study, run to its tables; tests read it and change only copies."""
    tree = fresh_tree(tmp_path_factory.mktemp("undisturbed") / "tree")
    assert tree.run_to_the_end(*TABLES) == 1
    return tree


@pytest.fixture(scope="session")
def expected(undisturbed: FaultTree) -> dict[str, str]:
    """Digests of what the study makes, by path."""
    return artifacts(undisturbed.results)


@pytest.fixture
def fresh(undisturbed: FaultTree, tmp_path: Path) -> FaultTree:
    """A tree in which nothing was made yet."""
    return blank_copy_of(undisturbed, tmp_path / "tree")
