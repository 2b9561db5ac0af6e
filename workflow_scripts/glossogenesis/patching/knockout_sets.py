"""Which features are removed for a label, and which instead of them as controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glossogenesis.patching.top_features import Features, Frequencies

Condition = Literal["none", "top", "random", "frequency", "other"]
CONDITIONS: tuple[Condition, ...] = ("none", "top", "random", "frequency", "other")
"""What is removed: nothing; the label's top features; others that fire; others that fire as often;
the top features of another label."""

NEAREST = 10
"""Of so many features that fire about as often as one, its stand-in is drawn."""

# Second entries of the seeds: no two controls share their draws.
_RANDOM, _FREQUENCY, _OTHER = range(3)


@dataclass(frozen=True)
class FeatureSet:
    """Features that are removed together."""

    condition: Condition
    draw: int
    other_label: str | None
    features: Features


@dataclass(frozen=True)
class ControlRule:
    """How many sets of each control there are, and the seed that draws them."""

    draws: int
    other_labels: int
    seed: int


def knockout_sets(
    label: str,
    tops: Mapping[str, Features],
    frequencies: Frequencies,
    rule: ControlRule,
    *,
    layer: int,
) -> list[FeatureSet]:
    """Return nothing, a label's top features, and the controls, in the order of rows.

    A label without a top feature has no controls. Random and frequency-matched features are drawn
    from those that fire and are not among the top ones; there are as many as of the top ones, or
    fewer where no more are left. Others' top features may be among the label's own.

    Args:
        label: one of `tops`.
        tops: as from `top_features_by_label`, of all labels in order.
        frequencies: as from `firing_frequencies`.
        rule: the number of controls, and the seed; what is drawn depends on nothing beside it but
            the layer and the label's place.
        layer: the layer.
    """
    top = tops[label]
    sets = [
        FeatureSet("none", 0, None, np.empty(0, dtype=np.int64)),
        FeatureSet("top", 0, None, top),
    ]
    if not len(top):
        return sets
    seed = (rule.seed, layer, list(tops).index(label))
    alive = np.flatnonzero(frequencies > 0)
    others = alive[~np.isin(alive, top)]
    drawn: dict[Condition, Iterator[Features]] = {
        "random": random_sets(len(top), others, rule.draws, seed),
        "frequency": frequency_sets(top, others, frequencies, rule.draws, seed),
    }
    for condition, of_condition in drawn.items():
        sets += [
            FeatureSet(condition, draw, None, chosen) for draw, chosen in enumerate(of_condition)
        ]
    candidates = [name for name in tops if name != label and len(tops[name])]
    generator = np.random.default_rng([*seed, _OTHER])
    places = generator.permutation(len(candidates))[: rule.other_labels].tolist()
    sets += [
        FeatureSet("other", draw, candidates[place], tops[candidates[place]])
        for draw, place in enumerate(places)
    ]
    return sets


def random_sets(size: int, others: Features, draws: int, seed: Sequence[int]) -> Iterator[Features]:
    """Yield sets of `size` of the `others`, every feature as likely as every other."""
    for draw in range(draws):
        generator = np.random.default_rng([*seed, _RANDOM, draw])
        yield generator.choice(others, min(size, len(others)), replace=False)


def frequency_sets(
    top: Features, others: Features, frequencies: Frequencies, draws: int, seed: Sequence[int]
) -> Iterator[Features]:
    """Yield sets of stand-ins for the `top` features, which fire about as often.

    For each in turn one of the `NEAREST` others is drawn whose frequencies differ least from its
    own, those left out that already stand in for another.
    """
    distances = np.abs(frequencies[others] - frequencies[top][:, None])
    # What others may take before is at most all that stand in so far.
    nearest = others[np.argsort(distances, axis=1, kind="stable")[:, : NEAREST + len(top) - 1]]
    for draw in range(draws):
        generator = np.random.default_rng([*seed, _FREQUENCY, draw])
        chosen: list[int] = []
        for candidates in nearest:
            free = candidates[~np.isin(candidates, chosen)][:NEAREST]
            if len(free):
                chosen.append(int(generator.choice(free)))
        yield np.array(chosen, dtype=np.int64)
