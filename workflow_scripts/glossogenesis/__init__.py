"""Glossogenesis: how a language model becomes multilingual, checkpoint by checkpoint.

What a notebook needs is here by name, and loaded when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glossogenesis.notebook import OpenCheckpoint, open_checkpoint
    from glossogenesis.sae.files import read_sae
    from glossogenesis.storage.activations.cache import ActivationCache
    from glossogenesis.storage.tables import read_provenance, read_table
    from glossogenesis.study.loading import load_study

# Threads that wait for each other sleep: one that waits in a loop takes the core from what it waits
# for as soon as another program runs. OpenMP reads this when PyTorch is loaded; jobs inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = [
    "ActivationCache",
    "OpenCheckpoint",
    "load_study",
    "open_checkpoint",
    "read_provenance",
    "read_sae",
    "read_table",
]

_MODULES = {
    "ActivationCache": "storage.activations.cache",
    "OpenCheckpoint": "notebook",
    "load_study": "study.loading",
    "open_checkpoint": "notebook",
    "read_provenance": "storage.tables",
    "read_sae": "sae.files",
    "read_table": "storage.tables",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
