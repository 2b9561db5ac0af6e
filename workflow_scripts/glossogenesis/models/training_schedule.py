"""Which phase and which context a training step has.

They decide what is trained, so they do not stand with the settings, whose code is in no digest.
"""

from __future__ import annotations

from glossogenesis.study.pretrain import PretrainSettings


def phase_of(settings: PretrainSettings, step: int) -> int:
    """The phase in which a step is trained, counting steps from 1; step 0 is of phase 1."""
    end = 0
    for phase in sorted(settings.steps):
        end += settings.steps[phase]
        if step <= end:
            return phase
    raise ValueError(f"step {step} is beyond the last, {end}")


def context_at(settings: PretrainSettings, step: int) -> int:
    """Tokens of a sequence in a step, counting steps from 1."""
    end = 0
    for short in settings.short_contexts:
        end += short.steps
        if step <= end:
            return short.context
    return settings.context
