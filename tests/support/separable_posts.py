"""Posts whose label shows in every token, and a tiny classifier that can learn it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.robustness.classifier import fresh_classifier
from glossogenesis.robustness.tokenised_posts import LabelledPosts
from support.tiny_models import tiny_model

LABELS = ("cars", "cooking", "pets")
TOKENS_OF_A_LABEL = 4


def separable_posts(posts: int, *, seed: int = 0) -> LabelledPosts:
    """Posts of 1 to 8 tokens; labels take turns and share no token. Ids 0 to 2 do not occur."""
    generator = np.random.default_rng(seed)
    label_ids = [number % len(LABELS) for number in range(posts)]
    token_ids = [
        generator.integers(0, TOKENS_OF_A_LABEL, generator.integers(1, 9))
        + (3 + label * TOKENS_OF_A_LABEL)
        for label in label_ids
    ]
    return LabelledPosts([ids.tolist() for ids in token_ids], label_ids)


def save_tiny_model(folder: Path, architecture: str = "llama") -> CheckpointLocation:
    """Save the weights of a tiny language model, without a tokenizer."""
    tiny_model(architecture).save_pretrained(folder)
    return CheckpointLocation(str(folder))


def tiny_fresh_classifier(location: CheckpointLocation, *, seed: int = 0) -> PreTrainedModel:
    """A saved language model with a fresh head for `LABELS`, padded by token 0."""
    return fresh_classifier(location, LABELS, pad_id=0, seed=seed)
