"""Capture outputs of components, and run prompts with some of them replaced, in either mode."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.robustness.components.fast import capture_at_last, run_last_positions
from glossogenesis.robustness.components.hooks import capture_by_hooks, run_by_hooks
from glossogenesis.robustness.components.rows import (
    ComponentRows,
    ComponentValues,
    Mode,
    OnBatch,
    Outputs,
    Where,
)


def capture_components(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    *,
    outputs: Outputs = "added",
    batch_size: int,
    mode: Mode = "fast",
    added: ComponentValues | None = None,
) -> tuple[ComponentValues, Tensor]:
    """Outputs of all components at the last position of each prompt, and a classifier's logits.

    Args:
        anatomy: a sequence classifier.
        token_ids: prompts without padding; lengths may differ.
        outputs: see `Outputs`.
        batch_size: prompts in one forward pass; it does not change the result.
        mode: `fast` runs the last block on the last position alone; `reference` runs the whole
            model under hooks. Both give the same but for rounding.
        added: filled with what each prompt's components add to the residual stream, whatever
            `outputs` is.

    Returns:
        Values in the model's dtype, and logits `[prompt, label]` in float32; all on the CPU.

    Raises:
        StudyError: a prompt is empty or ends on the padding token.
    """
    capture = capture_at_last if mode == "fast" else capture_by_hooks
    return capture(anatomy, token_ids, outputs=outputs, batch_size=batch_size, added=added)


def run_components(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    rows: ComponentRows,
    values: ComponentValues,
    *,
    mode: Mode,
    positions: Where = "last",
    outputs: Outputs = "added",
    batch_size: int,
    on_batch: OnBatch | None = None,
    added: ComponentValues | None = None,
) -> Tensor:
    """Logits of a classifier where outputs of some components are replaced.

    Args:
        anatomy: a sequence classifier.
        token_ids: prompts without padding; lengths may differ.
        rows: which prompts run, and what is replaced in each run.
        values: what is put in place; any dtype, on the CPU.
        mode: `fast` recomputes the last position alone, from the first replaced block on, over the
            prompt's cached keys and values; `reference` runs every row in full with hooks. Both
            give the same but for rounding.
        positions: where outputs are replaced: at the last position, or by the same value at `all`,
            which `reference` alone can do.
        outputs: see `Outputs`; as in the capture of the values.
        batch_size: full prompts in one forward pass; `fast` bounds its passes to as many tokens.
        on_batch: told how many rows each batch finished.
        added: filled with what the components of every prompt that has a row in which nothing is
            replaced add to the residual stream at its last position.

    Returns:
        `[row, label]`, float32 on the CPU, rows in the order given.

    Raises:
        ValueError: rows or values do not fit, or `positions="all"` is asked of `fast`.
        StudyError: a prompt is empty or ends on the padding token.
    """
    if mode == "fast":
        if positions == "all":
            raise ValueError('positions="all" needs mode="reference": earlier positions change')
        return run_last_positions(
            anatomy,
            token_ids,
            rows,
            values,
            outputs=outputs,
            batch_size=batch_size,
            on_batch=on_batch,
            added=added,
        )
    return run_by_hooks(
        anatomy,
        token_ids,
        rows,
        values,
        outputs=outputs,
        positions=positions,
        batch_size=batch_size,
        on_batch=on_batch,
        added=added,
    )
