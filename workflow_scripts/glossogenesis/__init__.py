"""Glossogenesis: how a language model becomes multilingual, checkpoint by checkpoint."""

import os

# Threads that wait for each other sleep: one that waits in a loop takes the core from what it waits
# for as soon as another program runs. OpenMP reads this when PyTorch is loaded; jobs inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
