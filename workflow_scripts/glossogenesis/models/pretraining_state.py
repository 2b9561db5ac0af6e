"""What the state of a pretraining run holds: weights, optimizer states and the log so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from glossogenesis.storage.resume import ResumeState


def save_state(
    state: ResumeState, model: nn.Module, optimizers: Sequence[Optimizer], progress: Any
) -> None:
    """Replace the state; `progress` is anything JSON holds, and floats come back exactly."""
    tensors: dict[str, Tensor] = {
        f"model/{name}": tensor for name, tensor in model.named_parameters()
    }
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                tensors[f"optimizer/{number}/{index}/{key}"] = value
    state.save(tensors, progress)


def restore_state(
    state: ResumeState, model: nn.Module, optimizers: Sequence[Optimizer]
) -> Any | None:
    """Load the state into model and optimizers; return its progress, or None without one.

    A damaged state counts as none: the run then begins anew.
    """
    found = state.load()
    if found is None:
        return None
    tensors, progress = found
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])
    for number, optimizer in enumerate(optimizers):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _states_of(number, tensors)})
    return progress


def _states_of(number: int, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return the state of one optimizer by index of parameter."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, *rest = name.split("/")
        if kind == "optimizer" and rest[0] == str(number):
            states.setdefault(int(rest[1]), {})[rest[2]] = tensor
    return states
