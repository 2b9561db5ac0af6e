"""Run a classifier over posts: logits, and the final states averaged over each post."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.padding import batches_by_length, pad_right


@dataclass(frozen=True)
class ClassifiedPosts:
    """What a classifier makes of posts; tensors are float32, on the CPU, in the posts' order."""

    logits: Tensor
    """`[post, label]`."""
    normed: Tensor
    """`[post, d_model]`: the final norm's output, mean over the post's tokens."""
    residual: Tensor
    """`[post, d_model]`: the last block's output before that norm, mean over the post's tokens."""


@torch.inference_mode()
def classify_posts(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    *,
    batch_size: int,
    on_batch: Callable[[int], object] | None = None,
) -> ClassifiedPosts:
    """Classify each post from its last token, and average its final states.

    Posts of similar length share a batch, padded on the right, where under causal attention no
    token sees the padding: the batch size changes the result by rounding alone.

    Args:
        anatomy: a model with a classification head.
        token_ids: posts of at least one token, without padding.
        batch_size: posts in one forward pass.
        on_batch: called with the number of posts after each pass.
    """
    posts = len(token_ids)
    logits: Tensor | None = None
    normed = torch.empty(posts, anatomy.d_model)
    residual = torch.empty(posts, anatomy.d_model)
    for batch in batches_by_length([len(ids) for ids in token_ids], batch_size):
        padded = pad_right([token_ids[index] for index in batch], anatomy.device)
        with _final_norm_input(anatomy) as captured:
            output = anatomy.base(**padded.model_inputs(anatomy), use_cache=False)
        states = output.last_hidden_state
        of_batch = anatomy.logits_of_normed(padded.at_last(states)).float().cpu()
        if logits is None:
            logits = torch.empty(posts, of_batch.shape[1])
        logits[batch] = of_batch
        normed[batch] = _mean_over_tokens(states, padded.mask)
        residual[batch] = _mean_over_tokens(captured[0], padded.mask)
        if on_batch is not None:
            on_batch(len(batch))
    assert logits is not None, "no posts"
    return ClassifiedPosts(logits, normed, residual)


def _mean_over_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Mean `[post, d_model]` of `states` `[post, position, d_model]` where `mask` is 1, float32."""
    at_tokens = mask[:, :, None].float()
    return ((states.float() * at_tokens).sum(dim=1) / at_tokens.sum(dim=1)).cpu()


@contextmanager
def _final_norm_input(anatomy: Anatomy) -> Iterator[list[Tensor]]:
    """Within the context, a forward pass puts the last block's output into the yielded list."""
    captured: list[Tensor] = []

    def keep(module: Any, inputs: Any) -> None:
        captured.append(inputs[0])

    handle = anatomy.final_norm.register_forward_pre_hook(keep)
    try:
        yield captured
    finally:
        handle.remove()
