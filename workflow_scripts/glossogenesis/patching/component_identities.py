"""Identities of component patching; a run that breaks one reports nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.models.float32 import in_float32
from glossogenesis.patching.component_runs import capture_components, run_components
from glossogenesis.patching.identities import TOLERANCE, CheckedInFloat32
from glossogenesis.robustness.components.effects import PatchedPairs, PatchingRule
from glossogenesis.robustness.components.rows import ComponentRows

SAMPLE = 4
"""Pairs that are checked; each takes three passes more."""

_WHAT = (
    "every component and the embedding replaced",
    "nothing replaced",
    "its own embedding put in place",
)


def check_component_identities(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    pairs: PatchedPairs,
    rule: PatchingRule,
    where: str,
) -> float:
    """Check the first `SAMPLE` pairs; returns the largest difference from what must come.

    - With every component and the embedding of the last position replaced, a corrupted post is
      classified as the clean one is: effect 1.
    - With nothing replaced, or its own embedding put in place, which recomputes all blocks, its
      logits are those of an ordinary pass: effect 0.

    Rounding is measured in logits, or, where clean and corrupted logit differ by more than 1, in
    effects.

    Args:
        anatomy: a sequence classifier.
        token_ids: prompts without padding.
        pairs: which of them are patched into which.
        rule: as in the run that is vouched for.
        where: names the model in messages.

    Raises:
        RuntimeError: an identity fails, which is a fault of the program or the model's code.
    """
    pairs = pairs.first(SAMPLE)
    n_pairs = len(pairs)
    prompts = torch.cat([pairs.clean, pairs.corrupted])
    values, logits = capture_components(
        anatomy,
        [token_ids[prompt] for prompt in prompts.tolist()],
        outputs=rule.outputs,
        batch_size=rule.batch_size,
        mode=rule.mode,
    )
    patched = run_components(
        anatomy,
        token_ids,
        identity_rows(anatomy, pairs),
        values,
        mode=rule.mode,
        outputs=rule.outputs,
        batch_size=rule.batch_size,
    )
    clean, corrupted = logits.split(n_pairs)
    worst = 0.0
    scale = (clean - corrupted).abs().clamp(min=1)
    for run, expected, what in zip(
        patched.split(n_pairs), (clean, corrupted, corrupted), _WHAT, strict=True
    ):
        largest = float(((run - expected).abs() / scale).max())
        if not largest <= TOLERANCE[anatomy.dtype]:
            raise RuntimeError(
                f"{where}: with {what}, a corrupted post's effect is off by {largest:.2g}, where "
                "equal numbers must come; effects of components cannot be trusted"
            )
        worst = max(worst, largest)
    return worst


def check_components_in_float32(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    pairs: PatchedPairs,
    rule: PatchingRule,
    where: str,
) -> CheckedInFloat32:
    """Check the same pairs in float32; arguments and errors as of `check_component_identities`."""
    with in_float32(anatomy.model):
        found = check_component_identities(anatomy, token_ids, pairs, rule, f"{where} in float32")
    return CheckedInFloat32(len(pairs.first(SAMPLE)), found)


def identity_rows(anatomy: Anatomy, pairs: PatchedPairs) -> ComponentRows:
    """The rows of each of `_WHAT`; sources are the clean posts, then the corrupted ones."""
    n_pairs = len(pairs)
    replaced = torch.zeros(3 * n_pairs, anatomy.n_layers, len(COMPONENTS), dtype=torch.bool)
    replaced[:n_pairs] = True
    places = torch.arange(n_pairs)
    return ComponentRows(
        prompts=pairs.corrupted.repeat(3),
        sources=torch.cat([places, places, places + n_pairs]),
        replaced=replaced,
        embedding=torch.tensor([True, False, True]).repeat_interleave(n_pairs),
    )
