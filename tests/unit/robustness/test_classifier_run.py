"""Running a classifier: the token it classifies from, and the means of its final states."""

from __future__ import annotations

import pytest
import torch

from glossogenesis.models.batches import pad_right
from glossogenesis.models.capture import block_output
from glossogenesis.robustness.tokenised_posts import ClassifiedPosts, classify_posts
from support.tiny_classifiers import N_LABELS, tiny_classifier
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, random_tokens

PAD = 0
POSTS = [
    *random_tokens([9, 17, 1]),
    [5, PAD, 7],
    [PAD, PAD, 8],
    [PAD, 4],
]
"""Some hold the token that pads, but none ends in it."""


def test_pads_on_the_right() -> None:
    padded = pad_right([[5, 0, 6], [7]], pad_id=9)
    assert padded.token_ids.tolist() == [[5, 0, 6], [7, 9, 9]]
    assert padded.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert padded.at_last(padded.token_ids).tolist() == [6, 7]


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_posts_are_classified_from_their_last_token(architecture: str) -> None:
    """As transformers does, padded or alone, and as the parts of the model do on a post alone."""
    anatomy = tiny_classifier(architecture)
    classified = classify_posts(anatomy, POSTS, batch_size=4)
    padded = pad_right(POSTS, pad_id=PAD)
    with torch.inference_mode():
        together = anatomy.model(padded.token_ids, attention_mask=padded.mask).logits
        alone = [anatomy.model(torch.tensor([ids])).logits[0] for ids in POSTS]
        states = [anatomy.base(torch.tensor([ids])).last_hidden_state[0] for ids in POSTS]
        assert anatomy.head is not None
        by_parts = [anatomy.head(of_post[-1]) for of_post in states]
    assert classified.logits.shape == (len(POSTS), N_LABELS)
    for other in (together, torch.stack(alone), torch.stack(by_parts)):
        torch.testing.assert_close(classified.logits, other, rtol=1e-4, atol=1e-5)
    means = torch.stack([of_post.mean(dim=0) for of_post in states])
    torch.testing.assert_close(classified.normed, means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "bloom", "gpt2"])
def test_the_residual_is_what_the_final_norm_reads(architecture: str) -> None:
    anatomy = tiny_classifier(architecture)
    classified = classify_posts(anatomy, POSTS, batch_size=3)
    assert classified.residual.shape == (len(POSTS), D_MODEL)
    blocks = anatomy.blocks
    outputs: list[torch.Tensor] = []

    def keep(module: object, inputs: object, output: object) -> None:
        outputs.append(block_output(output))

    handle = blocks[-1].register_forward_hook(keep)
    with torch.inference_mode():
        for ids in POSTS:
            anatomy.base(torch.tensor([ids]))
    handle.remove()
    means = torch.stack([output[0].mean(dim=0) for output in outputs])
    torch.testing.assert_close(classified.residual, means, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(classified.residual, classified.normed, atol=1e-2)


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_the_batch_size_changes_nothing_but_rounding(architecture: str) -> None:
    anatomy = tiny_classifier(architecture)
    results: list[ClassifiedPosts] = []
    for batch_size in (1, 2, 100):
        seen: list[int] = []
        results.append(classify_posts(anatomy, POSTS, batch_size=batch_size, on_batch=seen.append))
        assert sum(seen) == len(POSTS)
    for name in ("logits", "normed", "residual"):
        values = [getattr(result, name) for result in results]
        assert all(value.dtype == torch.float32 for value in values)
        scale = values[0].abs().max().item()
        for other in values[1:]:
            torch.testing.assert_close(other, values[0], rtol=0, atol=1e-5 * max(1, scale))
