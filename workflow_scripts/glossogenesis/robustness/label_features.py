"""Features of a classifier's autoencoder in one pass over the held-out posts.

The pass encodes every token once. Memory depends on the dictionary, the labels and the number of
posts, not on the number of tokens: what is kept of a post is its pooled activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.models.activation_order import ROWS_AT_ONCE, SPLIT, whole_sequences
from glossogenesis.progress import progress
from glossogenesis.robustness.cues import StrongestActivations
from glossogenesis.robustness.label_effects import cohens_d
from glossogenesis.sae.autoencoder import FiredLatents, SparseAutoencoder, rows_in_chunk
from glossogenesis.sae.quality import Measures, QualitySums
from glossogenesis.storage.activations.cache import ActivationCache, ActivationRows
from glossogenesis.study.robustness import POOLINGS, LabelFeatureSettings, Pooling

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Reals = NDArray[np.float32]

_VALUES_AT_ONCE = 1 << 22


class LabelSums:
    """Sums over posts of pooled activations, by label, and what the posts' own are."""

    def __init__(
        self, label_ids: Integers, n_labels: int, n_latents: int, pooling: Pooling
    ) -> None:
        """Start with no post added.

        Args:
            label_ids: label of each post of the split [post].
            n_labels: labels, also such that no post has.
            n_latents: features.
            pooling: which pooled activations are kept post by post.
        """
        self._label_ids = label_ids
        self._pooling = pooling
        self.posts = np.bincount(label_ids, minlength=n_labels).astype(np.float64)
        """Posts of each label [label]."""
        self.sums = {name: np.zeros((n_labels, n_latents)) for name in POOLINGS}
        """By pooling, [label, feature]; a post without tokens adds nothing."""
        self._squares = {name: np.zeros((n_labels, n_latents)) for name in POOLINGS}
        self._kept: list[Any] = [sparse.csr_array((0, n_latents), dtype=np.float32)]
        self._numbers: list[Integers] = []

    def add(self, pooled: PooledPosts) -> None:
        """Add some posts."""
        labels = self._label_ids[pooled.posts]
        member = sparse.csr_array(
            (np.ones(len(labels)), (labels, np.arange(len(labels)))),
            shape=(len(self.posts), len(labels)),
        )
        for name, values in pooled.by_pooling.items():
            exact = values.astype(np.float64)
            self.sums[name] += member @ exact
            self._squares[name] += member @ exact**2
        self._kept.append(sparse.csr_array(pooled.by_pooling[self._pooling]))
        self._numbers.append(pooled.posts)

    def d(self, pooling: Pooling) -> NDArray[np.float32]:
        """Cohen's d of each label and feature, [label, feature]."""
        return cohens_d(self.posts, self.sums[pooling], self._squares[pooling])

    def of_posts(self) -> Any:
        """Pooled activations, a scipy sparse array [post, feature] of all posts of the split."""
        kept = sparse.vstack(self._kept, format="csr")
        # A post without tokens has a row of zeros.
        places = np.concatenate([np.empty(0, np.int64), *self._numbers])
        shape = (len(self._label_ids), len(places))
        spread = sparse.csr_array(
            (np.ones(len(places), np.float32), (places, np.arange(len(places)))), shape=shape
        )
        return spread @ kept


class PostMeasures:
    """Figures of each post of the split; a post without tokens has sums of 0 and means of NaN."""

    def __init__(self, n_posts: int, top: int) -> None:
        """Start with nothing measured; `top` latents of a token count as its largest."""
        self._top = top
        self.active = np.zeros(n_posts, np.int64)
        """Features that fire on any token of the post; added by `collect_posts`."""
        names = ("tokens", "fired", "ratio", "with_ratio", "squared_error", "squared_norm")
        self._sums = {name: np.zeros(n_posts) for name in names}

    def add(self, tokens: FiredTokens, fired: FiredLatents, u: Tensor, error: Tensor) -> None:
        """Add whole posts: what fired, activations and errors [row, d_model]."""
        counts, ratios = top_ratios(fired, self._top)
        of_tokens: dict[str, NDArray[Any]] = {
            "tokens": np.ones(len(counts)),
            "fired": counts,
            "ratio": np.nan_to_num(ratios),
            "with_ratio": ~np.isnan(ratios),
            "squared_error": _squared(error),
            "squared_norm": _squared(u),
        }
        for name, values in of_tokens.items():
            sums = np.add.reduceat(values.astype(np.float64), tokens.starts[:-1])
            self._sums[name][tokens.posts] = sums

    @property
    def tokens(self) -> Integers:
        """Tokens of each post [post]."""
        return self._sums["tokens"].astype(np.int64)

    @property
    def l0(self) -> Floats:
        """Mean number of features that fire on a token [post]."""
        return _ratio(self._sums["fired"], self._sums["tokens"])

    @property
    def top_ratio(self) -> Floats:
        """Share of the largest latents in the sum of all, mean over tokens that have any [post]."""
        return _ratio(self._sums["ratio"], self._sums["with_ratio"])

    @property
    def squared_error(self) -> Floats:
        """Sum over tokens, in the autoencoder's space [post]."""
        return self._sums["squared_error"]

    @property
    def squared_norm(self) -> Floats:
        """Sum over tokens of what is reconstructed, likewise [post]."""
        return self._sums["squared_norm"]


class FeatureCounts:
    """How often and how strongly each feature fires."""

    def __init__(self, n_latents: int) -> None:
        """Start with nothing counted."""
        self.firings = np.zeros(n_latents, np.int64)
        """Tokens on which each feature fired [feature]."""
        self.posts = np.zeros(n_latents, np.int64)
        """Posts in which it fired [feature]; added by `collect_posts`."""
        self.sums = np.zeros(n_latents)
        """Sum of its activations [feature]."""

    def add(self, tokens: FiredTokens) -> None:
        """Count some tokens."""
        n_latents = len(self.firings)
        self.firings += np.bincount(tokens.latents, minlength=n_latents)
        self.sums += np.bincount(tokens.latents, tokens.values, minlength=n_latents)

    @property
    def mean(self) -> Floats:
        """Mean activation where each feature fired [feature]; NaN of dead ones."""
        return _ratio(self.sums, self.firings.astype(np.float64))


@dataclass(frozen=True)
class CollectedPosts:
    """What one pass over the held-out posts finds."""

    labels: LabelSums
    posts: PostMeasures
    features: FeatureCounts
    strongest: StrongestActivations
    overall: Measures
    """Quality of the reconstruction of all tokens."""


@torch.no_grad()
def collect_posts(
    sae: SparseAutoencoder,
    cache: ActivationCache,
    label_ids: Integers,
    n_labels: int,
    settings: LabelFeatureSettings,
) -> CollectedPosts:
    """Encode the held-out activations once and add up what fires, by post and by label.

    Args:
        sae: the autoencoder, on the device to compute on.
        cache: activations of its layer, one post a document.
        label_ids: label of each held-out post [post].
        n_labels: labels, also such that no held-out post has.
        settings: pooling, and how many activations and latents are looked at.

    Raises:
        StudyError: the cache holds no held-out token, others than those of the posts, or its
            sequences are out of order.
    """
    device = sae.b_enc.device
    labels = LabelSums(label_ids, n_labels, sae.n_latents, settings.pooling)
    measures = PostMeasures(len(label_ids), settings.top)
    strongest = StrongestActivations(sae.n_latents, settings.strongest)
    quality = QualitySums(1, sae.d_model, device)
    features = FeatureCounts(sae.n_latents)
    rows_at_once = min(ROWS_AT_ONCE, rows_in_chunk(sae.n_latents))
    with progress(total=cache.rows_in(SPLIT), label="label features", unit="token") as bar:
        for rows in whole_sequences(cache, rows_at_once):
            u, scale = sae.to_sae_space(rows.activations.to(device))
            fired = sae.fired(u)
            tokens = _tokens_of(fired, rows)
            _check_posts(rows, len(label_ids), cache)
            reconstruction = sae.decode(fired)
            counts = torch.bincount(fired.rows, minlength=len(u))
            quality.add(u, reconstruction, scale, counts, torch.zeros_like(counts))
            measures.add(tokens, fired, u, u - reconstruction)
            features.add(tokens)
            for pooled in pooled_posts(tokens, sae.n_latents):
                labels.add(pooled)
                fires = pooled.by_pooling["max"] > 0
                measures.active[pooled.posts] = fires.sum(axis=1)
                features.posts += fires.sum(axis=0)
            ids = (rows.documents, rows.columns, rows.token_ids)
            of_fired = (each.numpy()[tokens.rows] for each in ids)
            strongest.add(tokens.latents, tokens.values, *of_fired)
            bar.update(len(rows))
    overall = quality.of_all()
    if not overall.tokens:
        raise StudyError(f"{cache.manifest}: holds no held-out token; add held-out posts and rerun")
    return CollectedPosts(labels, measures, features, strongest, overall)


def top_ratios(fired: FiredLatents, top: int) -> tuple[Integers, Floats]:
    """Return how many latents fire for each token, and the share of the `top` largest in their sum.

    Both [row]; the share is NaN where nothing fires.
    """
    counts = torch.bincount(fired.rows, minlength=fired.n_rows)
    width = max(1, int(counts.max())) if len(counts) else 1
    places = torch.arange(len(fired.rows), device=fired.rows.device)
    places = places - fired.offsets()[fired.rows]
    values = torch.zeros(fired.n_rows, width, dtype=torch.float64, device=places.device)
    values[fired.rows, places] = fired.values.double()
    largest = values.topk(min(top, width), dim=1).values.sum(dim=1)
    ratios = largest / values.sum(dim=1)
    return counts.cpu().numpy(), ratios.cpu().numpy()


def _tokens_of(fired: FiredLatents, rows: ActivationRows) -> FiredTokens:
    documents = rows.documents.numpy()
    starts = np.flatnonzero(np.diff(documents, prepend=-1))
    return FiredTokens(
        rows=fired.rows.cpu().numpy(),
        latents=fired.latents.cpu().numpy(),
        values=fired.values.cpu().numpy(),
        starts=np.append(starts, len(documents)),
        posts=documents[starts].astype(np.int64),
    )


def _check_posts(rows: ActivationRows, n_posts: int, cache: ActivationCache) -> None:
    if (rows.documents != rows.contexts).any() or rows.documents[-1] >= n_posts:
        raise StudyError(
            f"{cache.manifest}: its held-out activations are not those of {n_posts} posts, one a "
            "context; remake them with `snakemake --forcerun extract_post_activations`"
        )


def _squared(vectors: Tensor) -> Floats:
    squared: Floats = vectors.double().square().sum(dim=1).cpu().numpy()
    return squared


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    ratio = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


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
