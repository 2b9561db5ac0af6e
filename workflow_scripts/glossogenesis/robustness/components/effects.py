"""How much of a decision each attention and each MLP carries, and what of it is direct.

For a clean and a corrupted post with different labels, the output of one component for the clean
post is put in place of that for the corrupted one. With z the logit of the clean post's label,

    effect = (z_patched - z_corrupted) / (z_clean - z_corrupted)

(Fukasawa 2026): 0 where the component does not matter, 1 where it restores the clean decision. It
may lie outside these bounds. Its direct part goes past all later blocks; see `direct_effects`.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.models.capture import CheckedInFloat32, check_equal, in_float32
from glossogenesis.robustness.components.fast import capture_components, run_components
from glossogenesis.robustness.components.rows import (
    ComponentRows,
    ComponentValues,
    Mode,
    OnBatch,
    Outputs,
)

SMALLEST_DENOMINATOR = 1e-6
"""Where the clean and the corrupted logit differ by less, the effect is undefined."""

_PAIRS_AT_ONCE = 64

SAMPLE = 4
"""Pairs that are checked; each takes three passes more."""

_WHAT = (
    "every component and the embedding replaced",
    "nothing replaced",
    "its own embedding put in place",
)

EFFECTS_SCHEMA = pl.Schema(
    {
        "set": pl.String,
        "pair": pl.Int32,
        "layer": pl.Int16,
        "component": pl.String,
        "effect": pl.Float32,
        "direct": pl.Float32,
        "direct_total": pl.Float32,
        "undefined": pl.Boolean,
        "clean_logit": pl.Float32,
        "corrupted_logit": pl.Float32,
        "patched_logit": pl.Float32,
    }
)
"""All logits are of the clean post's label; where `undefined`, effects are 0."""

_KEYS = ("clean", "corrupted", "clean_label")
_FIX = "remake the pairs with `snakemake --forcerun select_pairs`"


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
class DirectEffects:
    """Changes of the clean label's logit, float32."""

    components: Tensor
    """`[pair, layer, component]`"""
    total: Tensor
    """`[pair]`: all of them, and the embedding's."""


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
        on_batch: called with how many of `n_runs` each batch finished.
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
    difference = (found - expected) / expected.abs().clamp(min=1)
    what = "the outputs of all components and the embedding give logits that are off"
    check_equal(difference, anatomy, what, "direct effects")


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
        what = f"{where}: with {what}, a corrupted post's effect is off"
        largest = check_equal((run - expected) / scale, anatomy, what, "effects of components")
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


def distinct_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Posts and clean label of `pairs.parquet`, once where several sets have the same pair."""
    return pairs.select(_KEYS).unique(maintain_order=True)


def pairs_of_posts(
    distinct: pl.DataFrame, label_ids: Mapping[str, int], n_posts: int, path: Path
) -> PatchedPairs:
    """The pairs of `distinct_pairs`, by number of post and of label.

    Args:
        distinct: the pairs.
        label_ids: the classifier's labels and their indices.
        n_posts: number of held-out posts.
        path: the file of pairs, for messages.

    Raises:
        StudyError: a pair names a post or a label that is not there.
    """
    for post in {*distinct["clean"], *distinct["corrupted"]}:
        if not 0 <= post < n_posts:
            raise StudyError(f"{path}: held-out post {post} is not in 0..{n_posts - 1}; {_FIX}")
    for label in distinct["clean_label"].unique():
        if label not in label_ids:
            raise StudyError(f"{path}: the classifier has no label {label!r}; {_FIX}")
    labels = [label_ids[label] for label in distinct["clean_label"]]
    return PatchedPairs(
        clean=torch.tensor(distinct["clean"].to_list(), dtype=torch.int64),
        corrupted=torch.tensor(distinct["corrupted"].to_list(), dtype=torch.int64),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


def effects_table(
    pairs: pl.DataFrame, distinct: pl.DataFrame, effects: ComponentEffects
) -> pl.DataFrame:
    """Rows of `EFFECTS_SCHEMA`: the pairs in their order, each with all layers and components.

    Args:
        pairs: `pairs.parquet`.
        distinct: its `distinct_pairs`.
        effects: those of `distinct`, in its order.
    """
    n_pairs, n_layers, n_components = effects.patched.shape
    a_pair = n_layers * n_components
    columns = {
        "undefined": effects.undefined,
        "direct_total": effects.direct_total,
        "clean_logit": effects.clean,
        "corrupted_logit": effects.corrupted,
    }
    measured = distinct[torch.arange(n_pairs).repeat_interleave(a_pair).numpy()].with_columns(
        pl.Series("layer", torch.arange(n_layers).repeat_interleave(n_components).repeat(n_pairs)),
        pl.Series("component", COMPONENTS * (n_layers * n_pairs)),
        pl.Series("effect", effects.effect.flatten().numpy()),
        pl.Series("direct", effects.direct_effect.flatten().numpy()),
        pl.Series("patched_logit", effects.patched.flatten().numpy()),
        *(
            pl.Series(name, tensor.repeat_interleave(a_pair).numpy())
            for name, tensor in columns.items()
        ),
    )
    joined = pairs.join(measured, on=_KEYS, maintain_order="left_right")
    return joined.select(pl.col(name).cast(dtype) for name, dtype in EFFECTS_SCHEMA.items())
