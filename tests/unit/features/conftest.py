"""A world whose features are known, for all tests of features."""

import pytest

from support.feature_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A corpus, activations and autoencoder of which every count can be worked out by hand."""
    return World(tmp_path_factory.mktemp("world"))
