"""Pickles that leave a mark when they are opened, and what a user might take them for."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.mark), "w"))


def plain_pickle(mark: Path) -> bytes:
    """A trap as Python's own pickle writes it."""
    return pickle.dumps({"weight": Trap(mark)})


def torch_pickle(mark: Path) -> bytes:
    """A trap as `torch.save` writes it."""
    buffer = io.BytesIO()
    torch.save({"weight": Trap(mark), "optimizer": Trap(mark)}, buffer)
    return buffer.getvalue()


PICKLES = (plain_pickle, torch_pickle)
