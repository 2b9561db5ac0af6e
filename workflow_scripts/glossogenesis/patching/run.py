"""Choose the engine of a patching run."""

from __future__ import annotations

from typing import Literal

from glossogenesis.concepts.fast import run_fast
from glossogenesis.concepts.request import OnBatch, PatchedRun, PatchRequest
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.patching.reference import run_reference

Mode = Literal["fast", "reference"]


def run_patching(
    anatomy: Anatomy,
    request: PatchRequest,
    *,
    batch_size: int,
    mode: Mode = "fast",
    on_batch: OnBatch | None = None,
) -> PatchedRun:
    """Compute a patching request; both modes give the same result but for rounding.

    Args:
        anatomy: the model.
        request: prompts, patches, start layers and what to measure.
        batch_size: full prompts in one forward pass; `fast` bounds its passes to as many tokens.
        mode: `fast` recomputes only what a patch can change; `reference` runs every prompt in full
            with hooks.
        on_batch: told how many prompts each batch finished.

    Raises:
        ValueError: the request does not fit the model.
    """
    engine = run_fast if mode == "fast" else run_reference
    return engine(anatomy, request, batch_size=batch_size, on_batch=on_batch)
