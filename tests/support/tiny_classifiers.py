"""Random-weight classifiers of every supported architecture, and runs of their components."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.robustness.components.rows import ComponentRows
from support.tiny_models import tiny_config, with_random_weights

N_LABELS = 5
LENGTHS = [9, 17, 12, 1, 17, 2]
"""Lengths of prompts, longer and shorter than the sliding windows of tiny models."""


def tiny_classifier(architecture: str, *, seed: int = 0, **overrides: Any) -> Anatomy:
    """A tiny float32 classifier whose logits differ clearly."""
    config = tiny_config(architecture, num_labels=N_LABELS, **overrides)
    model = AutoModelForSequenceClassification.from_config(config)
    return Anatomy.of(with_random_weights(model, seed=seed))


def random_rows(
    anatomy: Anatomy, n_prompts: int, n_sources: int, *, n_rows: int = 40, seed: int = 0
) -> ComponentRows:
    """Rows with none, one, some or all components replaced, in any order.

    One prompt has no row, so that not all of them run.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (n_rows, anatomy.n_layers, len(COMPONENTS))
    share = torch.rand(n_rows, 1, 1, generator=generator)
    replaced = torch.rand(shape, generator=generator) < share
    replaced[0::8] = False
    replaced[1::8] = True
    for row in range(2, n_rows, 8):
        replaced[row] = False
        replaced[row, row % anatomy.n_layers, row // 8 % 2] = True
    return ComponentRows(
        prompts=torch.randint(1, n_prompts, (n_rows,), generator=generator),
        sources=torch.randint(0, n_sources, (n_rows,), generator=generator),
        replaced=replaced,
        embedding=torch.rand(n_rows, generator=generator) < 0.25,
    )
