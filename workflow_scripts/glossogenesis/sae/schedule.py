"""The learning rate over training: a linear rise, constant, a linear fall."""

from __future__ import annotations


def rate_factor(step: int, total: int, *, warmup_steps: int, decay_share: float) -> float:
    """Return the learning rate of a step as a share of the highest.

    It rises from 0 in the first step to 1 after `warmup_steps`, and falls over the last
    `decay_share` of the steps, so that it would reach 0 one step after the last.

    Args:
        step: counted from 1.
        total: steps of the training.
        warmup_steps: steps of the rise.
        decay_share: share of `total`.
    """
    rise = min(1.0, (step - 1) / warmup_steps) if warmup_steps else 1.0
    decay_steps = round(decay_share * total)
    fall = min(1.0, (total + 1 - step) / (decay_steps + 1))
    return min(rise, fall)
