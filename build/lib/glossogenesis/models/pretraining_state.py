"""The resume state of a pretraining run: where it stands, so that an interrupted run goes on.

One safetensors file holds weights, optimizer states and, as JSON in its header, the log so far. It
lies in a folder named by a digest of everything that the run depends on, so that a state is never
resumed by another run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from glossogenesis.storage.atomic import atomic_path

FILE_NAME = "state.safetensors"
HEADER_KEY = "progress"


@dataclass(frozen=True)
class ResumeState:
    """Keeps and finds the state of one run under `folder`, by the run's `digest`."""

    folder: Path
    digest: str

    @property
    def path(self) -> Path:
        """The file that holds the state."""
        return self.folder / self.digest / FILE_NAME

    def save(self, model: nn.Module, optimizers: Sequence[Optimizer], progress: Any) -> None:
        """Replace the state; `progress` is anything JSON holds, and floats come back exactly."""
        tensors = {f"model/{name}": tensor for name, tensor in model.named_parameters()}
        for number, optimizer in enumerate(optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                for key, value in values.items():
                    tensors[f"optimizer/{number}/{index}/{key}"] = value
        detached = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with atomic_path(self.path) as temporary:
            save_file(detached, temporary, metadata={HEADER_KEY: json.dumps(progress)})

    def restore(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> Any | None:
        """Load the state into model and optimizers; return its progress, or None without one.

        A damaged state counts as none: the run then begins anew.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                progress = json.loads(file.metadata()[HEADER_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (FileNotFoundError, SafetensorError):
            return None
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[f"model/{name}"])
        for number, optimizer in enumerate(optimizers):
            optimizer.load_state_dict(
                {**optimizer.state_dict(), "state": _states_of(number, tensors)}
            )
        return progress

    def remove(self) -> None:
        """Remove the state, and those of runs with other settings that were given up."""
        if not self.folder.is_dir():
            return
        for state in self.folder.glob(f"*/{FILE_NAME}"):
            shutil.rmtree(state.parent)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def _states_of(number: int, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return the state of one optimizer by index of parameter."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, *rest = name.split("/")
        if kind == "optimizer" and rest[0] == str(number):
            states.setdefault(int(rest[1]), {})[rest[2]] = tensor
    return states
