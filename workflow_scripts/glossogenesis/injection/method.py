"""Features of a later checkpoint in the residual stream of an earlier one: groups, controls.

The later model is the source, the earlier one the target. With u = h_source / |h_source| and
z = SAE(u), a group S of latents changes the target's residual stream to

    h' = h_target + alpha * scale * sum over i in S of z_i W_dec[i],

without the decoder's bias; `scale` is |h_source| or |h_target|, or 1 where the autoencoder does not
normalise. This is the intervention of Inaba et al. 2025 as far as it is documented. With
`mode="replace"` the sum takes the place of what the same group explains of h_target itself:

    h' = h_target + alpha * (scale * sum z_i W_dec[i] - |h_target| * sum z_i(h_target) W_dec[i]).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from glossogenesis.features.schemas import BILINGUAL, SYMBOL, alive_features
from glossogenesis.sae.autoencoder import FiredLatents, SparseAutoencoder, decode

Control = Literal["none", "random", "norm_matched"]


@dataclass(frozen=True)
class Method:
    """How a sum of features changes the residual stream."""

    scale: Literal["source", "target"] = "source"
    """Whose norm the sum is multiplied by."""
    mode: Literal["add", "replace"] = "add"
    positions: Literal["all", "last"] = "all"

    @property
    def reads_target(self) -> bool:
        """Whether the autoencoder is applied to the target model too."""
        return self.mode == "replace" or self.scale == "target"


@dataclass(frozen=True)
class Variant:
    """A group of latents that is injected, or a control for it."""

    group: str
    """A language, or `bilingual`."""
    control: Control
    """`random`: other latents; `norm_matched`: the group's norm in a random direction."""
    draw: int | None
    """Number of the control's random draw."""
    latents: Tensor
    """What is summed over: int64 [latent]."""
    factor: float = 1.0
    """What the sum is multiplied by, so that random latents have the group's expected norm."""
    direction: Tensor | None = None
    """Unit vector [d_model] that takes the place of the change's own direction."""

    def __post_init__(self) -> None:
        if (self.direction is not None) != (self.control == "norm_matched"):
            raise ValueError("a direction belongs to norm-matched controls, and to them alone")


@dataclass(frozen=True)
class Reading:
    """What an autoencoder reads off tokens of one model at one layer."""

    fired: FiredLatents
    scale: Tensor
    """`[row, 1]`, float32: norms, or ones where the autoencoder does not normalise."""

    @classmethod
    def of(cls, sae: SparseAutoencoder, states: Tensor) -> Reading:
        """Read the residual stream `[row, d_model]`, any float dtype."""
        u, scale = sae.to_sae_space(states)
        return cls(sae.fired(u), scale)

    def sum_over(self, latents: Tensor, w_dec: Tensor) -> Tensor:
        """Sum of z_i W_dec[i] over some latents, without scale: float32 `[row, d_model]`."""
        members = torch.zeros(len(w_dec), dtype=torch.bool, device=w_dec.device)
        members[latents.to(w_dec.device)] = True
        chosen = members[self.fired.latents]
        fired = FiredLatents(
            self.fired.rows[chosen],
            self.fired.latents[chosen],
            self.fired.values[chosen],
            self.fired.n_rows,
        )
        return decode(fired, w_dec)


def change_of(
    variant: Variant,
    alpha: float,
    source: Reading,
    target: Reading | None,
    method: Method,
    w_dec: Tensor,
) -> Tensor:
    """What a variant adds to the target's residual stream: float32 `[row, d_model]`.

    Args:
        variant: the latents, or the control.
        alpha: strength.
        source: reading of the source model at the tokens.
        target: reading of the target model at the same tokens; may be None where
            `method.reads_target` is False.
        method: how the sum is scaled, and what it replaces.
        w_dec: decoder `[latent, d_model]` of the autoencoder.

    Raises:
        ValueError: the method needs a reading of the target and there is none.
    """
    change = source.sum_over(variant.latents, w_dec)
    if not method.reads_target:
        change = source.scale * change
    elif target is None:
        raise ValueError("this method needs what the autoencoder reads off the target model")
    else:
        change = (source if method.scale == "source" else target).scale * change
        if method.mode == "replace":
            change = change - target.scale * target.sum_over(variant.latents, w_dec)
    change = alpha * variant.factor * change
    if variant.direction is None:
        return change
    norms = torch.linalg.vector_norm(change, dim=-1, keepdim=True)
    moved: Tensor = norms * variant.direction.to(change)
    return moved


def changed_states(states: Tensor, where: Tensor, change: Tensor) -> Tensor:
    """Residual stream with a change added at some tokens; the others keep their bits.

    Args:
        states: `[prompt, column, d_model]`; it is left as it is.
        where: bool `[prompt, column]`, with as many tokens as `change` has rows.
        change: float32 `[row, d_model]`.
    """
    changed = states.clone()
    changed[where] = (states[where].float() + change).to(states.dtype)
    return changed


@dataclass(frozen=True)
class LatentGroups:
    """Groups of an autoencoder's latents."""

    by_name: Mapping[str, Tensor]
    """int64, ascending; a group may be empty."""
    alive: Tensor
    """All latents that fire, int64, ascending."""


def variants_of(
    groups: LatentGroups, *, d_model: int, draws: int, seed: int, layer: int
) -> list[Variant]:
    """Every group with its controls: `draws` random groups, and as many random directions.

    A random group has as many latents as its group, drawn from the other latents that fire; fewer
    where there are not as many. An empty group has no controls. What is drawn for a group depends
    on the seed, the layer and the group's place among the groups alone.
    """
    variants: list[Variant] = []
    for place, (name, latents) in enumerate(groups.by_name.items()):
        variants.append(Variant(name, "none", None, latents))
        if len(latents) == 0:
            continue
        others = groups.alive[~torch.isin(groups.alive, latents)]
        for draw in range(draws):
            generator = np.random.default_rng([seed, layer, place, draw])
            count = min(len(latents), len(others))
            chosen = np.sort(generator.choice(len(others), count, replace=False))
            variants.append(Variant(name, "random", draw, others[torch.from_numpy(chosen)]))
            direction = torch.from_numpy(generator.standard_normal(d_model)).float()
            variants.append(
                Variant(name, "norm_matched", draw, latents, direction=direction / direction.norm())
            )
    return variants


def with_matched_norms(
    variants: Sequence[Variant],
    readings: Iterable[tuple[Reading, Reading | None]],
    method: Method,
    w_dec: Tensor,
) -> tuple[list[Variant], list[float]]:
    """Scale random groups so that they change tokens by the same norm as their group on average.

    Args:
        variants: as from `variants_of`.
        readings: tokens that the expectation is taken over, in batches.
        method: as in `change_of`.
        w_dec: decoder of the autoencoder.

    Returns:
        The variants, and the mean norm by which each changes a token at strength 1. The factor is
        0 where a random group never fires.
    """
    sums = [0.0] * len(variants)
    rows = 0
    for source, target in readings:
        rows += source.fired.n_rows
        for place, variant in enumerate(variants):
            if len(variant.latents):
                change = change_of(variant, 1.0, source, target, method, w_dec)
                sums[place] += float(torch.linalg.vector_norm(change, dim=-1).double().sum())
    means = [total / max(rows, 1) for total in sums]
    of_group = {
        variant.group: mean
        for variant, mean in zip(variants, means, strict=True)
        if variant.control == "none"
    }
    matched: list[Variant] = []
    for place, variant in enumerate(variants):
        if variant.control == "random":
            factor = of_group[variant.group] / means[place] if means[place] else 0.0
            means[place] *= factor
            variant = replace(variant, factor=factor)
        matched.append(variant)
    return matched, means


def injection_groups(
    statistics: pl.DataFrame,
    n_latents: int,
    *,
    languages: Sequence[str],
    minimum_monosemanticity: float,
    path: Path,
) -> LatentGroups:
    """Group the features of `statistics.parquet`, read from `path`.

    Bilingual features are those with that label whose monosemanticity is at least the minimum:
    they fire in several languages for one meaning (Inaba et al. 2025). Features that fire on tokens
    without letters are a group of their own, since what they do is no language's.

    Raises:
        StudyError: the statistics are of another autoencoder.
    """
    alive = alive_features(statistics, n_latents, path)
    groups = {code: _features(alive.filter(language=code)) for code in languages}
    groups[BILINGUAL] = _features(
        alive.filter(
            pl.col("language") == BILINGUAL, pl.col("monosemanticity") >= minimum_monosemanticity
        )
    )
    groups[SYMBOL] = _features(alive.filter(language=SYMBOL))
    return LatentGroups(groups, _features(alive))


def _features(rows: pl.DataFrame) -> Tensor:
    return torch.tensor(rows["feature"].to_list(), dtype=torch.int64)
