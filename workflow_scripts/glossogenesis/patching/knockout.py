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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glossogenesis.errors import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.models.padding import batches_by_length
from glossogenesis.patching.identities import TOLERANCE
from glossogenesis.patching.knockout_passes import (
    ReadPosts,
    batches_of_runs,
    read_posts_once,
    run_changed,
)
from glossogenesis.patching.top_features import Features
from glossogenesis.sae.autoencoder import FiredLatents, SparseAutoencoder, decode


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


@dataclass(frozen=True)
class Knockout:
    """Logits of posts with and without features, float32 on the CPU."""

    before: Tensor
    """`[post, label]`"""
    after: Sequence[Tensor]
    """For each layer's knockout, `[set, post, label]`."""


@torch.inference_mode()
def knock_out(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    knockouts: Sequence[LayerKnockout],
    removal: Removal,
    *,
    batch_size: int,
    on_batch: Callable[[int], object] | None = None,
) -> Knockout:
    """Remove every set of every layer, one at a time, from posts.

    A post in which no removed feature fires is not run again. Neither is what precedes the first
    changed token of one that is.

    Args:
        anatomy: the classifier.
        token_ids: the posts, without padding; the last token is classified from.
        knockouts: the layers with their autoencoders and sets.
        removal: how.
        batch_size: posts that are read together; one pass over the model has at most as many
            tokens as they have. It does not change the result.
        on_batch: called with how many posts are done with a layer.

    Raises:
        StudyError: a post has no tokens.
        RuntimeError: resuming the model above a layer differs from running it whole.
    """
    if empty := [number for number, ids in enumerate(token_ids) if not ids]:
        raise StudyError(f"post {empty[0]} has no tokens; a post without text cannot be classified")
    runner = BlockRunner(anatomy)
    layers = [knockout.layer for knockout in knockouts]
    n_labels = int(anatomy.config.num_labels)
    before = torch.empty(len(token_ids), n_labels)
    after = [torch.empty(len(each.sets), len(token_ids), n_labels) for each in knockouts]
    for posts in batches_by_length([len(ids) for ids in token_ids], batch_size):
        chosen = [token_ids[post] for post in posts]
        whole = _logits_of_model(anatomy, chosen)
        with runner.attending():
            read = read_posts_once(runner, chosen, layers)
            before[posts] = read.logits.float().cpu()
            _check(anatomy, read.logits, whole, "the posts read block by block")
            for knockout, of_layer in zip(knockouts, after, strict=True):
                of_layer[:, posts] = _without(runner, read, knockout, removal).float().cpu()
                if on_batch is not None:
                    on_batch(len(posts))
    return Knockout(before, after)


@dataclass(frozen=True)
class _Changes:
    """What stands in for a layer's stream in each run, where it differs from what was read.

    A run is a post with one of the layer's sets removed.
    """

    states: Tensor
    """`[state, d_model]` in the model's dtype."""
    places: Tensor
    """Which state stands at each token, int64 `[set, post, position]`; -1 where it is unchanged."""

    @classmethod
    def of(
        cls, stream: Tensor, where: Tensor, knockout: LayerKnockout, removal: Removal
    ) -> _Changes:
        """Remove sets from the tokens of `stream` `[post, position, d_model]` that `where` has."""
        tokens = stream[where]
        u, scale = knockout.sae.to_sae_space(tokens)
        fired = knockout.sae.fired(u)
        whole = tokens.float()
        if removal.replace == "reconstruction":
            whole = knockout.sae.decode(fired) * scale
        places = torch.full((len(knockout.sets), *where.shape), -1, device=stream.device)
        parts: list[Tensor] = []
        count = 0
        for number, latents in enumerate(knockout.sets):
            removed = _only(fired, latents, knockout.sae.n_latents)
            touched = torch.unique_consecutive(removed.rows)
            if removal.replace == "reconstruction":
                touched = torch.arange(len(tokens), device=stream.device)
            part = decode(removed, knockout.sae.w_dec)[touched] * scale[touched]
            parts.append((whole[touched] - part).to(stream.dtype))
            place = torch.full((len(tokens),), -1, device=stream.device)
            place[touched] = torch.arange(count, count + len(touched), device=stream.device)
            places[number][where] = place
            count += len(touched)
        return cls(torch.cat(parts), places)

    def applied(self, stream: Tensor, sets: Tensor, posts: Tensor, first: int, end: int) -> Tensor:
        """The stream of some runs at positions `first..end-1`, `[run, position, d_model]`."""
        hidden = stream[posts, first:end]
        places = self.places[sets, posts, first:end]
        changed = places >= 0
        hidden[changed] = self.states[places[changed]]
        return hidden


def _without(
    runner: BlockRunner, read: ReadPosts, knockout: LayerKnockout, removal: Removal
) -> Tensor:
    """Logits `[set, post, label]` of posts with each set of a layer removed."""
    layer, stream = knockout.layer, read.streams[knockout.layer]
    where = read.looked_at(layer)
    if removal.positions == "last" and stream.shape[1] > 1:
        columns = torch.arange(stream.shape[1], device=stream.device)
        where = columns == (read.lengths - 1)[:, None]
    changes = _Changes.of(stream, where, knockout, removal)
    touched = changes.places >= 0
    result = read.logits.expand(len(knockout.sets), *read.logits.shape).clone()
    if layer == runner.anatomy.n_layers - 1:
        sets, posts = touched[:, :, 0].nonzero(as_tuple=True)
        result[sets, posts] = runner.anatomy.logits(
            changes.applied(stream, sets, posts, 0, 1)[:, 0]
        )
        return result
    everything = torch.arange(len(read.lengths), device=stream.device)
    resumed = run_changed(runner, read, layer, everything, 0, stream)
    _check(runner.anatomy, resumed, read.logits, f"the model resumed above layer {layer}")
    sets, posts = touched.any(dim=2).nonzero(as_tuple=True)
    starts = touched[sets, posts].int().argmax(dim=1)
    tokens = stream.shape[0] * stream.shape[1]
    for runs in batches_of_runs(starts, read.lengths[posts], tokens):
        some = posts[runs]
        first, end = int(starts[runs].min()), int(read.lengths[some].max())
        hidden = changes.applied(stream, sets[runs], some, first, end)
        result[sets[runs], some] = run_changed(runner, read, layer, some, first, hidden)
    return result


def _only(fired: FiredLatents, latents: Features | Tensor, n_latents: int) -> FiredLatents:
    """Those of the fired latents that are among `latents`."""
    members = torch.zeros(n_latents, dtype=torch.bool, device=fired.latents.device)
    members[torch.as_tensor(latents, device=members.device)] = True
    kept = members[fired.latents]
    return FiredLatents(fired.rows[kept], fired.latents[kept], fired.values[kept], fired.n_rows)


def _logits_of_model(anatomy: Anatomy, token_ids: Sequence[Sequence[int]]) -> Tensor:
    """Logits `[post, label]` at the last token by the model's own forward pass."""
    lengths = torch.tensor([len(ids) for ids in token_ids])
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(ids) for ids in token_ids], batch_first=True
    )
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    inputs = {"input_ids": padded, "attention_mask": mask.long()}
    device = anatomy.device
    normed: Tensor = anatomy.base(
        **{name: values.to(device) for name, values in inputs.items()}, use_cache=False
    ).last_hidden_state
    rows = torch.arange(len(lengths), device=device)
    return anatomy.logits_of_normed(normed[rows, lengths.to(device) - 1])


def _check(anatomy: Anatomy, found: Tensor, expected: Tensor, what: str) -> None:
    difference = float((found.float() - expected.float()).abs().max())
    if not difference <= TOLERANCE[anatomy.dtype]:
        raise RuntimeError(
            f"{what}: logits differ by {difference:.2g} from the whole model's, where equal "
            "numbers must come; knockouts cannot be trusted"
        )
