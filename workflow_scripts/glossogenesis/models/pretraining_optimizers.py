"""What updates the weights of a model that is being pretrained, and at which rate."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import AdamW, Optimizer
from transformers.pytorch_utils import Conv1D

from glossogenesis.config.pretrain import OptimizerSettings, PretrainSettings
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.muon import Muon


def make_optimizers(anatomy: Anatomy, settings: OptimizerSettings) -> list[Optimizer]:
    """Return the optimizers; each group's `peak` is the rate that the schedule scales.

    Weight decay holds for the blocks' matrices, not for embeddings, head, biases and norms.
    """
    matrices = [
        weight for block in anatomy.blocks for weight in block.parameters() if weight.ndim == 2
    ]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in anatomy.model.parameters() if id(weight) not in chosen]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    optimizers: list[Optimizer] = []
    if settings.name == "muon":
        optimizers.append(
            Muon(
                [{"params": matrices, "inputs_first": _inputs_first(anatomy)}],
                lr=settings.matrix_rate,
                weight_decay=settings.weight_decay,
            )
        )
    else:
        groups.append({"params": matrices, "weight_decay": settings.weight_decay})
    optimizers.append(AdamW(groups, lr=settings.rate, betas=settings.betas))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _inputs_first(anatomy: Anatomy) -> bool:
    """Tell whether the blocks' matrices are [input, output], as in GPT-2."""
    return any(isinstance(part, Conv1D) for part in anatomy.blocks[0].modules())


def rate_factor(step: int, settings: PretrainSettings) -> float:
    """Return the rate of a step, counted from 1, as a share of the peak."""
    schedule = settings.optimizer
    if step <= schedule.warmup_steps:
        return step / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / (settings.total_steps - schedule.warmup_steps)
    left = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[schedule.schedule]
    return schedule.final_share + (1.0 - schedule.final_share) * left
