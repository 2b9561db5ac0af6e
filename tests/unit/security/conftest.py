"""A tiny checkpoint, whole, for tests to put something bad into."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.tiny_checkpoint import save_tiny_checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def weights(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint folder that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "weights"))
