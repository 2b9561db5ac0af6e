"""What each post makes of every feature: the mean, the maximum and the last token's activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glossogenesis.study.robustness import Pooling

Integers = NDArray[np.int64]
Reals = NDArray[np.float32]

_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class FiredTokens:
    """The latents that fired for the tokens of some whole posts, in order."""

    rows: Integers
    """Token of each [fired], ascending."""
    latents: Integers
    """Number of each in the dictionary [fired]."""
    values: Reals
    """Activation of each, positive [fired]."""
    starts: Integers
    """First token of each post, and where the last post's tokens end [post + 1]."""
    posts: Integers
    """Number of each post in its split [post]."""


@dataclass(frozen=True)
class PooledPosts:
    """Some posts' activations of every feature, a token's where nothing fired being 0."""

    posts: Integers
    """Number of each post in its split [post]."""
    by_pooling: Mapping[Pooling, Reals]
    """[post, feature] each: `mean` over the post's tokens, `max`, and of the `last`."""


def pooled_posts(fired: FiredTokens, n_latents: int) -> Iterator[PooledPosts]:
    """Pool posts, a bounded number of them at a time."""
    step = max(1, _VALUES_AT_ONCE // n_latents)
    for first in range(0, len(fired.posts), step):
        starts = fired.starts[first : first + step + 1]
        here = slice(*np.searchsorted(fired.rows, (starts[0], starts[-1])))
        rows, latents, values = fired.rows[here], fired.latents[here], fired.values[here]
        post = np.searchsorted(starts, rows, side="right") - 1
        shape = (len(starts) - 1, n_latents)
        keys = post * n_latents + latents
        sums = np.bincount(keys, values, minlength=shape[0] * n_latents).reshape(shape)
        maximum, last = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        np.maximum.at(maximum.ravel(), keys, values)
        ends = rows == starts[post + 1] - 1
        last.ravel()[keys[ends]] = values[ends]
        means = (sums / np.diff(starts)[:, None]).astype(np.float32)
        posts = fired.posts[first : first + step]
        yield PooledPosts(posts, {"mean": means, "max": maximum, "last": last})
