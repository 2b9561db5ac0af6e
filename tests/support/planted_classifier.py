"""A classifier that reads each post's label off one direction of its last token, by design."""

from __future__ import annotations

import torch
from transformers import AutoModelForSequenceClassification

from glossogenesis.models.anatomy import Anatomy
from support.tiny_models import D_MODEL, tiny_config

LABELS = ("a", "b", "c", "d")
TOKEN = 10
"""The last token of a post of the first label; those of the others follow."""
COMMON = 20
"""A direction that every label's token has, and that says `d` where nothing else speaks."""
STRENGTH = 4.0


def planted_classifier() -> Anatomy:
    """A tiny Llama whose blocks add nothing, so that its head sees the last token's embedding.

    The token of label number k is `STRENGTH` times axis k plus axis `COMMON`, of which the head
    takes axis k as the logit of label k, and a tenth of axis `COMMON` as one more for `d`. Without
    its axis a post of `a`, `b` or `c` is taken for one of `d`.
    """
    config = tiny_config("llama", num_labels=len(LABELS))
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {label: number for number, label in enumerate(LABELS)}
    model = AutoModelForSequenceClassification.from_config(config).eval().requires_grad_(False)
    anatomy = Anatomy.of(model)
    for module in (*anatomy.attention_outputs, *anatomy.mlp_outputs):
        module.weight.zero_()
    axes = torch.eye(D_MODEL)
    for number in range(len(LABELS)):
        anatomy.embedding.weight[TOKEN + number] = STRENGTH * axes[number] + axes[COMMON]
    anatomy.head.weight.copy_(axes[: len(LABELS)])
    anatomy.head.weight[-1, COMMON] = 0.1
    return anatomy


def planted_posts(label_id: int, number: int) -> list[list[int]]:
    """Posts of one label: some other tokens, then the label's own."""
    return [[*range(30, 33 + post), TOKEN + label_id] for post in range(number)]
