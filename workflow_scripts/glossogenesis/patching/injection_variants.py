"""Which groups are injected at a layer, and the random controls of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from glossogenesis.injection.method import Method, Reading, Variant, change_of


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
