"""Features of a classifier removed from its residual stream, and the logits without them.

After a block, with u = h / scale the activation that the autoencoder sees (scale is |h| where it
normalises, else 1), z its latents and K the removed ones,

    h' = h - scale * sum over i in K of z_i W_dec[i]                (`error_preserving`),
    h' = scale * (sum over i not in K of z_i W_dec[i] + b_dec)      (`reconstruction`),

at every token of a post or at the classified one alone. The first leaves what the autoencoder does
not explain where it is, so that nothing removed changes nothing; the second loses it even then.
Both are readings of the knockout of Fukasawa 2026, who does not say which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import batches_by_length, pad_right
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.models.capture import CheckedInFloat32, check_equal, in_float32
from glossogenesis.models.prefill import Prefill, prefill
from glossogenesis.robustness.label_effects import Features
from glossogenesis.sae.autoencoder import FiredLatents, SparseAutoencoder, decode

SAMPLE = 4
"""Posts of every run that are read in float32 too."""

_STARTS_TOGETHER = 8
"""Runs whose first tokens lie this close go into one batch, the others of which start earlier."""

_SETS_AT_ONCE = 32
"""Sets whose changed states are in memory at a time."""


@dataclass(frozen=True)
class Removal:
    """How features are removed."""

    replace: Literal["error_preserving", "reconstruction"] = "error_preserving"
    positions: Literal["all", "last"] = "all"


@dataclass(frozen=True)
class LayerKnockout:
    """What is removed after one block."""

    layer: int
    sae: SparseAutoencoder
    """On the model's device."""
    sets: Sequence[Features | Tensor]
    """Latents of each set, int64; a set may be empty."""
    posts: NDArray[np.bool_] | None = None
    """Which posts each set is removed from, bool `[set, post]`; all where None."""


@dataclass(frozen=True)
class KnockedOut:
    """Logits of some posts with and without features, float32 on the CPU."""

    posts: Sequence[int]
    """Their numbers."""
    before: Tensor
    """`[post, label]`"""
    after: Sequence[Tensor]
    """For each layer's knockout, `[set, post, label]`; as before where a set is not removed."""


@torch.inference_mode()
def knock_out(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    knockouts: Sequence[LayerKnockout],
    removal: Removal,
    *,
    batch_size: int,
) -> Iterator[KnockedOut]:
    """Remove every set of every layer, one at a time, from posts; yield some posts at a time.

    A post in which no removed feature fires is not run again. Neither is what precedes the first
    changed token of one that is.

    Args:
        anatomy: the classifier.
        token_ids: the posts, without padding; the last token is classified from.
        knockouts: the layers with their autoencoders and sets.
        removal: how.
        batch_size: posts that are read together; one pass over the model has at most as many
            tokens as they have. It does not change the result.

    Raises:
        StudyError: a post has no tokens.
        RuntimeError: resuming the model above a layer differs from running it whole.
    """
    if empty := [number for number, ids in enumerate(token_ids) if not ids]:
        raise StudyError(f"post {empty[0]} has no tokens; a post without text cannot be classified")
    runner = BlockRunner(anatomy)
    layers = [knockout.layer for knockout in knockouts]
    for posts in batches_by_length([len(ids) for ids in token_ids], batch_size):
        chosen = [token_ids[post] for post in posts]
        whole = _logits_of_model(anatomy, chosen)
        with runner.attending():
            read, before = _read(runner, chosen, layers)
            _check(anatomy, before, whole, "the posts read block by block")
            after = [
                _without(read, before, _of_posts(knockout, posts), removal).float().cpu()
                for knockout in knockouts
            ]
        yield KnockedOut(posts, before.float().cpu(), after)


def check_in_float32(
    anatomy: Anatomy, token_ids: Sequence[Sequence[int]], layers: Sequence[int]
) -> CheckedInFloat32:
    """Read the first `SAMPLE` posts in float32, and resume above each layer: logits are the same.

    Raises:
        RuntimeError: a logit changes by more than rounding.
    """
    posts = token_ids[:SAMPLE]
    with in_float32(anatomy.model), torch.inference_mode():
        runner = BlockRunner(anatomy)
        whole = _logits_of_model(anatomy, posts)
        with runner.attending():
            read, before = _read(runner, posts, layers)
            found = [_check(anatomy, before, whole, "the posts read block by block")]
            found += [_check_resumed(read, before, layer) for layer in layers]
    return CheckedInFloat32(len(posts), max(found))


def batches_of_runs(starts: Tensor, lengths: Tensor, tokens: int) -> Iterator[Tensor]:
    """Divide runs into batches of at most `tokens` tokens, or of one run.

    Args:
        starts: position of each run's first token, int64 `[run]`.
        lengths: tokens of each run's post, int64 `[run]`.
        tokens: bound of a batch; a run counts from the batch's first start to its longest post.

    Yields:
        Indices of runs, int64, each once.
    """
    together = (starts // _STARTS_TOGETHER).tolist()
    of_start, of_length = starts.tolist(), lengths.tolist()
    order = sorted(range(len(of_start)), key=lambda run: (together[run], -of_length[run], run))
    batch: list[int] = []
    first = end = 0
    for run in order:
        wide = max(end, of_length[run]) - min(first, of_start[run])
        if batch and (len(batch) + 1) * wide > tokens:
            yield torch.tensor(batch)
            batch = []
        if not batch:
            first, end = of_start[run], of_length[run]
        first, end = min(first, of_start[run]), max(end, of_length[run])
        batch.append(run)
    if batch:
        yield torch.tensor(batch)


def _read(
    runner: BlockRunner, token_ids: Sequence[Sequence[int]], layers: Sequence[int]
) -> tuple[Prefill, Tensor]:
    """Read posts of similar length; logits `[post, label]` at their last tokens."""
    padded = pad_right(token_ids, runner.anatomy.device)
    read = prefill(runner, padded, layers, n_last=1)
    return read, runner.anatomy.logits(read.output[:, 0])


def _of_posts(knockout: LayerKnockout, posts: Sequence[int]) -> LayerKnockout:
    """The same of some posts alone."""
    return replace(knockout, posts=None if knockout.posts is None else knockout.posts[:, posts])


@dataclass(frozen=True)
class _Stream:
    """What the autoencoder makes of the tokens that features are removed from."""

    where: Tensor
    """Which entries of the layer's stream they are, bool `[post, position]`."""
    whole: Tensor
    """What is left of them where nothing is removed, float32 `[token, d_model]`."""
    fired: FiredLatents
    scale: Tensor
    """Undoes the autoencoder's normalisation, `[token, 1]`."""

    @classmethod
    def of(cls, stream: Tensor, where: Tensor, sae: SparseAutoencoder, removal: Removal) -> _Stream:
        """Encode the tokens of `stream` `[post, position, d_model]` that `where` has."""
        tokens = stream[where]
        u, scale = sae.to_sae_space(tokens)
        fired = sae.fired(u)
        rebuilt = removal.replace == "reconstruction"
        return cls(where, sae.decode(fired) * scale if rebuilt else tokens.float(), fired, scale)


@dataclass(frozen=True)
class _Changes:
    """What stands in for a layer's stream in each run, where it differs from what was read.

    A run is a post with one of some sets removed.
    """

    states: Tensor
    """`[state, d_model]` in the model's dtype."""
    places: Tensor
    """Which state stands at each token, int64 `[set, post, position]`; -1 where it is unchanged."""

    @classmethod
    def of(
        cls,
        known: _Stream,
        knockout: LayerKnockout,
        numbers: range,
        removal: Removal,
        dtype: torch.dtype,
    ) -> _Changes:
        """Remove the sets of these numbers."""
        fired, device = known.fired, known.where.device
        places = torch.full((len(numbers), *known.where.shape), -1, device=device)
        of_post = known.where.nonzero()[:, 0]
        parts: list[Tensor] = []
        count = 0
        for place, number in zip(places, numbers, strict=True):
            looked_at = torch.ones(fired.n_rows, dtype=torch.bool, device=device)
            if knockout.posts is not None:
                looked_at = torch.from_numpy(knockout.posts[number]).to(device)[of_post]
            removed = _members(knockout.sets[number], knockout.sae.n_latents, device)[fired.latents]
            removed &= looked_at[fired.rows]
            touched = looked_at
            if removal.replace == "error_preserving":
                touched = torch.zeros_like(looked_at)
                touched[fired.rows[removed]] = True
            among = touched.cumsum(0) - 1
            total = int(touched.sum())
            only = FiredLatents(
                among[fired.rows[removed]], fired.latents[removed], fired.values[removed], total
            )
            part = decode(only, knockout.sae.w_dec) * known.scale[touched]
            parts.append((known.whole[touched] - part).to(dtype))
            place[known.where] = torch.where(touched, among + count, -1)
            count += total
        return cls(torch.cat(parts), places)

    def applied(self, stream: Tensor, sets: Tensor, posts: Tensor, first: int, end: int) -> Tensor:
        """The stream of some runs at positions `first..end-1`, `[run, position, d_model]`."""
        hidden = stream[posts, first:end]
        places = self.places[sets, posts, first:end]
        changed = places >= 0
        hidden[changed] = self.states[places[changed]]
        return hidden


def _without(read: Prefill, before: Tensor, knockout: LayerKnockout, removal: Removal) -> Tensor:
    """Logits `[set, post, label]` of posts with each set of a layer removed.

    After the last block, whose output is that of the classified token alone, all is as if that
    token were the post.
    """
    layer, stream = knockout.layer, read.streams[knockout.layer]
    columns = torch.arange(stream.shape[1], device=stream.device)
    lengths = read.lengths[:, None].clamp(max=len(columns))
    where = columns == lengths - 1 if removal.positions == "last" else columns < lengths
    _check_resumed(read, before, layer)
    known = _Stream.of(stream, where, knockout.sae, removal)
    n_sets = len(knockout.sets)
    result = before.expand(n_sets, *before.shape).clone()
    for start in range(0, n_sets, _SETS_AT_ONCE):
        numbers = range(start, min(start + _SETS_AT_ONCE, n_sets))
        changes = _Changes.of(known, knockout, numbers, removal, stream.dtype)
        _fill(result[start : numbers.stop], read, layer, changes)
    return result


def _fill(result: Tensor, read: Prefill, layer: int, changes: _Changes) -> None:
    """Replace logits `[set, post, label]` of the runs that differ from what was read."""
    stream = read.streams[layer]
    touched = changes.places >= 0
    sets, posts = touched.any(dim=2).nonzero(as_tuple=True)
    if layer == read.runner.anatomy.n_layers - 1:
        result[sets, posts] = _resumed(read, layer, changes.applied(stream, sets, posts, 0, 1))
        return
    starts = touched[sets, posts].int().argmax(dim=1)
    tokens = stream.shape[0] * stream.shape[1]
    for runs in batches_of_runs(starts, read.lengths[posts], tokens):
        some = posts[runs]
        first, end = int(starts[runs].min()), int(read.lengths[some].max())
        hidden = changes.applied(stream, sets[runs], some, first, end)
        result[sets[runs], some] = _resumed(read, layer, hidden, some, first)


def _resumed(
    read: Prefill, layer: int, hidden: Tensor, posts: Tensor | None = None, first: int = 0
) -> Tensor:
    """Logits `[run, label]` where the model goes on from another output of a layer."""
    output = read.resume(layer, hidden, prompts=posts, first=first)
    return read.runner.anatomy.logits(output[:, 0])


def _members(latents: Features | Tensor, n_latents: int, device: torch.device) -> Tensor:
    """Which latents are among some, bool `[latent]`."""
    members = torch.zeros(n_latents, dtype=torch.bool, device=device)
    members[torch.as_tensor(latents, device=device)] = True
    return members


def _logits_of_model(anatomy: Anatomy, token_ids: Sequence[Sequence[int]]) -> Tensor:
    """Logits `[post, label]` at the last token by the model's own forward pass."""
    padded = pad_right(token_ids, anatomy.device)
    normed: Tensor = anatomy.base(**padded.model_inputs(anatomy), use_cache=False).last_hidden_state
    return anatomy.logits_of_normed(padded.at_last(normed))


def _check_resumed(read: Prefill, before: Tensor, layer: int) -> float:
    """Largest difference of logits where the model goes on from a layer's own stream."""
    resumed = _resumed(read, layer, read.streams[layer])
    return _check(read.runner.anatomy, resumed, before, f"the model resumed above layer {layer}")


def _check(anatomy: Anatomy, found: Tensor, expected: Tensor, what: str) -> float:
    difference = found.float() - expected.float()
    what = f"{what}: logits differ from the whole model's"
    return check_equal(difference, anatomy, what, "knockouts")
