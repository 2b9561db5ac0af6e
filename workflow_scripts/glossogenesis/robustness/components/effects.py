"""How much of a decision each attention and each MLP carries at the last position.

For a clean and a corrupted post with different labels, the output of one component for the clean
post is put in place of that for the corrupted one. With z the logit of the clean post's label,

    effect = (z_patched - z_corrupted) / (z_clean - z_corrupted)

(Fukasawa 2026): 0 where the component does not matter, 1 where it restores the clean decision. It
may lie outside these bounds. Its direct part goes past all later blocks; see `direct_effects`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.patching.component_runs import capture_components, run_components
from glossogenesis.patching.direct_effects import DirectEffects, direct_effects
from glossogenesis.robustness.components.rows import (
    ComponentRows,
    ComponentValues,
    Mode,
    OnBatch,
    Outputs,
)

SMALLEST_DENOMINATOR = 1e-6
"""Where the clean and the corrupted logit differ by less, the effect is undefined."""


@dataclass(frozen=True)
class PatchedPairs:
    """Pairs of prompts; every tensor is `[pair]`, int64."""

    clean: Tensor
    """Index of the prompt that outputs come from."""
    corrupted: Tensor
    """Index of the prompt into which they are put."""
    labels: Tensor
    """The clean prompt's label, whose logit is read."""

    def __len__(self) -> int:
        return len(self.clean)

    def first(self, n_pairs: int) -> PatchedPairs:
        """The first pairs."""
        return PatchedPairs(self.clean[:n_pairs], self.corrupted[:n_pairs], self.labels[:n_pairs])


@dataclass(frozen=True)
class PatchingRule:
    """How components are patched."""

    mode: Mode
    """See `run_components`."""
    outputs: Outputs
    batch_size: int
    """Full prompts in one forward pass; it does not change the result."""


@dataclass(frozen=True)
class ComponentEffects:
    """The clean label's logits of some pairs, float32."""

    clean: Tensor
    """`[pair]`"""
    corrupted: Tensor
    """`[pair]`"""
    patched: Tensor
    """`[pair, layer, component]`"""
    direct: DirectEffects
    """How much of the change from corrupted to clean goes to the logit directly."""

    @property
    def undefined(self) -> Tensor:
        """`[pair]`, bool: where clean and corrupted logit are as good as equal."""
        return (self.clean - self.corrupted).abs() < SMALLEST_DENOMINATOR

    @property
    def effect(self) -> Tensor:
        """`[pair, layer, component]`, float32; 0 where undefined."""
        return self._of_difference(self.patched.double() - self.corrupted.double()[:, None, None])

    @property
    def direct_effect(self) -> Tensor:
        """`[pair, layer, component]`, float32: the direct part of the effect; 0 where undefined."""
        return self._of_difference(self.direct.components)

    @property
    def direct_total(self) -> Tensor:
        """`[pair]`, float32: that of all components and the embedding; 0 where undefined.

        1, were the scale of the final norm the same for both prompts.
        """
        return self._of_difference(self.direct.total)

    def _of_difference(self, change: Tensor) -> Tensor:
        """A change of logits `[pair, ...]` as a share of that from corrupted to clean."""
        difference = self.clean.double() - self.corrupted.double()
        shape = (-1, *[1] * (change.ndim - 1))
        share = change.double() / difference.view(shape)
        return share.masked_fill(self.undefined.view(shape), 0).float()


def component_effects(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    pairs: PatchedPairs,
    rule: PatchingRule,
    on_batch: OnBatch | None = None,
) -> ComponentEffects:
    """Patch every component of every pair, one at a time.

    A prompt that is clean, or corrupted, in several pairs runs once as such.

    Args:
        anatomy: a sequence classifier.
        token_ids: prompts without padding.
        pairs: which of them are patched into which.
        rule: see `PatchingRule`.
        on_batch: told how many of `n_runs` each batch finished.
    """
    clean, clean_places = pairs.clean.unique(return_inverse=True)
    clean_added = ComponentValues.empty(anatomy, len(clean))
    values, clean_logits = capture_components(
        anatomy,
        [token_ids[prompt] for prompt in clean.tolist()],
        outputs=rule.outputs,
        batch_size=rule.batch_size,
        mode=rule.mode,
        added=clean_added,
    )
    corrupted, corrupted_places = pairs.corrupted.unique(return_inverse=True)
    corrupted_added = ComponentValues.empty(anatomy, len(corrupted))
    logits = run_components(
        anatomy,
        [token_ids[prompt] for prompt in corrupted.tolist()],
        _rows(anatomy, corrupted_places, clean_places, len(corrupted)),
        values,
        mode=rule.mode,
        outputs=rule.outputs,
        batch_size=rule.batch_size,
        on_batch=on_batch,
        added=corrupted_added,
    )
    corrupted_logits = logits[-len(corrupted) :]
    direct = direct_effects(
        anatomy,
        (clean_added, clean_places),
        (corrupted_added, corrupted_places),
        pairs.labels,
        corrupted_logits,
    )
    labels = pairs.labels[:, None]
    n_components = anatomy.n_layers * len(COMPONENTS)
    patched = logits[: -len(corrupted)].view(len(pairs), n_components, -1)
    of_label = patched.gather(2, labels[:, None].expand(-1, n_components, 1))
    return ComponentEffects(
        clean=clean_logits[clean_places].gather(1, labels)[:, 0],
        corrupted=corrupted_logits[corrupted_places].gather(1, labels)[:, 0],
        patched=of_label.view(len(pairs), anatomy.n_layers, len(COMPONENTS)),
        direct=direct,
    )


def n_runs(anatomy: Anatomy, pairs: PatchedPairs) -> int:
    """How many patched and unpatched runs of corrupted prompts the effects of pairs take."""
    return len(pairs) * anatomy.n_layers * len(COMPONENTS) + len(pairs.corrupted.unique())


def _rows(
    anatomy: Anatomy, corrupted_places: Tensor, clean_places: Tensor, n_corrupted: int
) -> ComponentRows:
    """For each pair every component alone, then each corrupted prompt with nothing replaced."""
    n_pairs, corrupted = len(corrupted_places), torch.arange(n_corrupted)
    n_components = anatomy.n_layers * len(COMPONENTS)
    alone = torch.eye(n_components, dtype=torch.bool).view(-1, anatomy.n_layers, len(COMPONENTS))
    nothing = torch.zeros(len(corrupted), anatomy.n_layers, len(COMPONENTS), dtype=torch.bool)
    return ComponentRows(
        prompts=torch.cat([corrupted_places.repeat_interleave(n_components), corrupted]),
        sources=torch.cat(
            [clean_places.repeat_interleave(n_components), torch.zeros_like(corrupted)]
        ),
        replaced=torch.cat([alone.repeat(n_pairs, 1, 1), nothing]),
        embedding=torch.zeros(n_pairs * n_components + n_corrupted, dtype=torch.bool),
    )
