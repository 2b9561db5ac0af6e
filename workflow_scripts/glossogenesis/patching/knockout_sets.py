"""Which features are removed at a layer: those of each label, and controls."""

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
_RANDOM, _FREQUENCY = range(2)


@dataclass(frozen=True)
class FeatureSet:
    """Features that are removed together."""

    condition: Literal["none", "top", "random", "frequency"]
    label: str | None
    """Whose top features these are, or stand in for; None of the others, which serve all labels."""
    draw: int
    features: Features

    @property
    def from_all_posts(self) -> bool:
        """Whether they are removed from every post, or from those of their label alone.

        Features that fire as often are drawn anew for each label, so that all draws on all posts
        would cost as many times more as there are labels; the first draw is enough for accuracy.
        """
        return self.condition != "frequency" or self.draw == 0


def knockout_sets(
    tops: Mapping[str, Features], frequencies: Frequencies, *, draws: int, seed: int, layer: int
) -> list[FeatureSet]:
    """Return every set that is removed at a layer: nothing, random ones, then label by label.

    Random features are drawn from all that fire, as many as the label with most top features has.
    Frequency-matched ones are drawn from those that fire and are not among the label's top ones;
    there are as many as of the top ones, or fewer where no more are left. A label without a top
    feature has none. The top features of one label are the control `other` of all others, so they
    have no sets of their own.

    Args:
        tops: as from `top_features_by_label`, of all labels in order.
        frequencies: as from `firing_frequencies`.
        draws: sets of each control.
        seed: draws controls; what is drawn depends on nothing beside it but the layer and the
            label's place.
        layer: the layer.
    """
    alive = np.flatnonzero(frequencies > 0)
    sets = [FeatureSet("none", None, 0, np.empty(0, dtype=np.int64))]
    most = max(map(len, tops.values()), default=0)
    drawn = random_sets(most, alive, draws, (seed, layer))
    sets += [FeatureSet("random", None, draw, chosen) for draw, chosen in enumerate(drawn)]
    for place, (label, top) in enumerate(tops.items()):
        sets.append(FeatureSet("top", label, 0, top))
        if len(top):
            others = alive[~np.isin(alive, top)]
            drawn = frequency_sets(top, others, frequencies, draws, (seed, layer, place))
            sets += [FeatureSet("frequency", label, draw, each) for draw, each in enumerate(drawn)]
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
