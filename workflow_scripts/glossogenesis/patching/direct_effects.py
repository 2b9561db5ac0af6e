"""Direct logit attribution: what of a component's effect goes to the logits past all later blocks.

The last block's output is the sum of what enters block 0 and of what every component adds, and the
logits are a linear map of it once the scale of the final norm is held fixed. With a component's
outputs `o` for a clean and a corrupted post at their last positions, `s` the scale of the corrupted
post, `g` the norm's gain and `w` the head's row of the clean post's label,

    direct = w . (g * (o_clean - o_corrupted) / s)                             (in logits),

where LayerNorm also takes the mean off. All components' parts and the embedding's add up to what
the logit would change by with the scale held at `s`. Both outputs are those of the two passes that
effects are measured by anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.patching.identities import TOLERANCE
from glossogenesis.robustness.components.rows import ComponentValues

_PAIRS_AT_ONCE = 64


@dataclass(frozen=True)
class DirectEffects:
    """Changes of the clean label's logit, float32."""

    components: Tensor
    """`[pair, layer, component]`"""
    total: Tensor
    """`[pair]`: all of them, and the embedding's."""


@dataclass(frozen=True)
class FrozenNorm:
    """The final norm and head of a classifier, with the scale that some streams give the norm."""

    gain: Tensor
    """`[d_model]`"""
    bias: Tensor
    """`[d_model]`"""
    weight: Tensor
    """Of the head, `[label, d_model]`."""
    scale: Tensor
    """`[row]`"""
    centred: bool
    """Whether the mean over `d_model` is taken off, as LayerNorm does."""

    @classmethod
    def of(cls, anatomy: Anatomy, streams: Tensor) -> FrozenNorm:
        """Freeze the norm at `streams`, float32 `[row, d_model]`; all on the CPU in float32."""
        norm: Any = anatomy.final_norm
        head: Any = anatomy.head
        centred = isinstance(norm, nn.LayerNorm)
        gain = norm.weight.detach().float().cpu()
        if anatomy.architecture.startswith("gemma"):
            gain = 1 + gain
        bias = norm.bias.detach().float().cpu() if centred else torch.zeros_like(gain)
        epsilon = getattr(norm, "variance_epsilon", None) or norm.eps
        about = streams - streams.mean(dim=-1, keepdim=True) if centred else streams
        scale = (about.square().mean(dim=-1) + float(epsilon)).sqrt()
        return cls(gain, bias, head.weight.detach().float().cpu(), scale, centred)

    def directions(self, labels: Tensor, rows: Tensor) -> Tensor:
        """What a change of the stream is multiplied by to give that of a logit, `[pair, d_model]`.

        `labels` and `rows` are `[pair]`: the label, and the stream whose scale holds.
        """
        direction = self.gain * self.weight[labels]
        if self.centred:
            direction = direction - direction.mean(dim=-1, keepdim=True)
        return direction / self.scale[rows, None]

    def logits(self, streams: Tensor) -> Tensor:
        """Logits `[row, label]` of the streams that the norm was frozen at."""
        about = streams - streams.mean(dim=-1, keepdim=True) if self.centred else streams
        return (about / self.scale[:, None] * self.gain + self.bias) @ self.weight.T


@torch.inference_mode()
def direct_effects(
    anatomy: Anatomy,
    clean: tuple[ComponentValues, Tensor],
    corrupted: tuple[ComponentValues, Tensor],
    labels: Tensor,
    corrupted_logits: Tensor,
) -> DirectEffects:
    """Direct effects of every component of every pair.

    Args:
        anatomy: a sequence classifier.
        clean: what components add for clean prompts, and the place of each pair's among them.
        corrupted: the same of corrupted prompts.
        labels: the clean prompt's label, `[pair]`.
        corrupted_logits: the model's, `[corrupted prompt, label]`.

    Raises:
        RuntimeError: the components and the embedding of a corrupted prompt do not add up to what
            the model classifies from.
    """
    values, places = corrupted
    streams = values.embeddings.float() + values.outputs.float().sum(dim=(1, 2))
    frozen = FrozenNorm.of(anatomy, streams)
    _check(anatomy, frozen.logits(streams), corrupted_logits)
    directions = frozen.directions(labels, places)
    parts, embeddings = [], []
    for start in range(0, len(labels), _PAIRS_AT_ONCE):
        pairs = slice(start, start + _PAIRS_AT_ONCE)
        theirs, ours = clean[1][pairs], places[pairs]
        added = clean[0].outputs[theirs].float() - values.outputs[ours].float()
        parts.append(torch.einsum("plcd,pd->plc", added, directions[pairs]))
        entering = clean[0].embeddings[theirs].float() - values.embeddings[ours].float()
        embeddings.append((entering * directions[pairs]).sum(dim=-1))
    components = torch.cat(parts)
    return DirectEffects(components, components.sum(dim=(1, 2)) + torch.cat(embeddings))


def _check(anatomy: Anatomy, found: Tensor, expected: Tensor) -> None:
    difference = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
    if not difference <= TOLERANCE[anatomy.dtype]:
        raise RuntimeError(
            f"the outputs of all components and the embedding give logits that are off by "
            f"{difference:.2g} from the model's, where equal numbers must come; direct effects "
            "cannot be trusted"
        )
