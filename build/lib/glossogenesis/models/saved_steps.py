"""Where a pretraining run keeps the checkpoint of each saved step."""

from __future__ import annotations

from pathlib import Path


def folder_of_step(run: Path, step: int) -> Path:
    """Return the folder of one saved step, such as `step_000512`, which sorts by step."""
    return run / f"step_{step:06d}"
