"""Which features are removed at a layer, and the rows of `knockout.parquet`.

One row for each layer, label and set of features that was removed: what became of the label's own
posts (recall), of those of others that it is given (false positives), and of all posts (accuracy,
macro F1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.robustness.label_effects import Features, Frequencies
from glossogenesis.robustness.scores import f1_counts, macro_f1_of
from glossogenesis.statistics.intervals import Bootstrap

Condition = Literal["none", "top", "random", "frequency", "other"]
CONDITIONS: tuple[Condition, ...] = ("none", "top", "random", "frequency", "other")
"""What is removed: nothing; the label's top features; others that fire; others that fire as often;
the top features of another label."""

NEAREST = 10
"""Of so many features that fire about as often as one, its stand-in is drawn."""

# Second entries of the seeds: no two controls share their draws.
_RANDOM, _FREQUENCY = range(2)

Integers = NDArray[np.int64]

KNOCKOUT_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "label": pl.String,
        "condition": pl.String,
        "draw": pl.Int32,
        "other_label": pl.String,
        "features": pl.Int32,
        "n": pl.Int32,
        "correct_before": pl.Int32,
        "correct_after": pl.Int32,
        "lost": pl.Int32,
        "gained": pl.Int32,
        "logit_change": pl.Float32,
        # Of posts of all labels; null where the set was removed from the label's own alone.
        "all_n": pl.Int32,
        "all_correct_before": pl.Int32,
        "all_correct_after": pl.Int32,
        "all_lost": pl.Int32,
        "all_gained": pl.Int32,
        "macro_f1_before": pl.Float64,
        "macro_f1_after": pl.Float64,
        "macro_f1_low": pl.Float64,
        "macro_f1_high": pl.Float64,
        # Posts of other labels that are given this one.
        "false_before": pl.Int32,
        "false_after": pl.Int32,
        "false_lost": pl.Int32,
        "false_gained": pl.Int32,
    }
)

RECALL = ("correct_before", "correct_after", "lost", "gained")
ACCURACY = ("all_correct_before", "all_correct_after", "all_lost", "all_gained")
FALSE_POSITIVES = ("false_before", "false_after", "false_lost", "false_gained")
"""Columns of posts before and after, and of those that are so one time alone."""


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

        Features that fire as often are drawn again for each label, so that all draws on all posts
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


@dataclass(frozen=True)
class LayerPredictions:
    """What posts are taken for without features of one layer."""

    layer: int
    labels: Sequence[str]
    sets: Sequence[FeatureSet]
    true: Integers
    """Label of each post `[post]`."""
    before: Integers
    """What the classifier takes it for `[post]`."""
    after: Integers
    """`[set, post]`; as before where a set is not removed from a post."""
    change: NDArray[np.float32]
    """Change of the logit of the post's own label `[set, post]`."""


def knockout_rows(found: LayerPredictions, bootstrap: Bootstrap) -> Iterator[dict[str, Any]]:
    """Count what becomes of posts: rows of `KNOCKOUT_SCHEMA`, label by label.

    A label's rows are those of nothing removed, its top features, random ones, frequency-matched
    ones, and the top features of every other label; a label without top features has no controls.
    `bootstrap` is that of intervals of macro F1.
    """
    over_all = [_of_all_posts(found, number, bootstrap) for number in range(len(found.sets))]
    featureless = {
        each.label for each in found.sets if each.condition == "top" and not len(each.features)
    }
    for label_id, label in enumerate(found.labels):
        others = 0
        for number, chosen in enumerate(found.sets):
            row: dict[str, Any] = {"condition": chosen.condition, "draw": chosen.draw}
            if chosen.label not in (None, label):
                if chosen.condition != "top" or chosen.label in featureless:
                    continue
                row = {"condition": "other", "draw": others, "other_label": chosen.label}
                others += 1
            if label in featureless and row["condition"] not in ("none", "top"):
                continue
            yield _of_label(found, number, label_id) | over_all[number] | row


def _of_label(found: LayerPredictions, number: int, label_id: int) -> dict[str, Any]:
    """What removing a set does to the posts of a label, and to those that are given it."""
    chosen, own = found.sets[number], found.true == label_id
    before, after = (given == label_id for given in (found.before, found.after[number]))
    change = found.change[number][own].astype(np.float64)
    row: dict[str, Any] = dict.fromkeys(KNOCKOUT_SCHEMA)
    row |= {"layer": found.layer, "label": found.labels[label_id], "features": len(chosen.features)}
    row |= {"n": int(own.sum()), **_counts(RECALL, before[own], after[own])}
    if chosen.from_all_posts:
        row |= _counts(FALSE_POSITIVES, before[~own], after[~own])
    return row | {"logit_change": float(change.mean()) if len(change) else None}


def _of_all_posts(found: LayerPredictions, number: int, bootstrap: Bootstrap) -> dict[str, Any]:
    """Accuracy and macro F1 without a set that was removed from every post."""
    chosen, after = found.sets[number], found.after[number]
    if not chosen.from_all_posts or not len(after):
        return {}
    right, still = found.before == found.true, after == found.true
    row: dict[str, Any] = {"all_n": len(after), **_counts(ACCURACY, right, still)}
    # Posts that are alike in label and in both predictions are resampled as one number.
    kinds, times = np.unique([found.true, found.before, after], axis=1, return_counts=True)
    n_labels = len(found.labels)
    parts = [f1_counts(kinds[0], given, n_labels) for given in kinds[1:]]
    values = [float(macro_f1_of(times @ part)) for part in parts]
    row |= {"macro_f1_before": values[0], "macro_f1_after": values[1]}
    if chosen.condition == "top":
        generator = np.random.default_rng(bootstrap.seed)
        drawn = generator.multinomial(len(after), times / len(after), size=bootstrap.resamples)
        differences = macro_f1_of(drawn @ parts[1]) - macro_f1_of(drawn @ parts[0])
        tail = (1 - bootstrap.confidence) / 2
        low, high = np.quantile(differences, [tail, 1 - tail]).tolist()
        row |= {"macro_f1_low": low, "macro_f1_high": high}
    return row


def _counts(
    columns: Sequence[str], before: NDArray[np.bool_], after: NDArray[np.bool_]
) -> dict[str, int]:
    """Posts before and after, and those that are so one time alone."""
    numbers = (before, after, before & ~after, after & ~before)
    return {name: int(posts.sum()) for name, posts in zip(columns, numbers, strict=True)}
