"""Columns of `knockout.parquet`, and its rows from the logits of one label's posts.

One row for each layer, label and set of features that was removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.patching.knockout_sets import FeatureSet

Floats = NDArray[np.float32]

KNOCKOUT_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "label": pl.String,
        "condition": pl.String,
        "draw": pl.Int32,  # number of a control's set; 0 elsewhere
        "other_label": pl.String,  # whose top features; null but for `other`
        "features": pl.Int32,  # removed
        "n": pl.Int32,  # held-out posts of the label
        "correct_before": pl.Int32,
        "correct_after": pl.Int32,
        "lost": pl.Int32,  # right before, wrong after
        "gained": pl.Int32,  # wrong before, right after
        "logit_change": pl.Float32,  # of the label, mean over its posts; null without posts
    }
)


def knockout_rows(
    layer: int,
    label: str,
    label_id: int,
    sets: Sequence[FeatureSet],
    before: Floats,
    after: Floats,
) -> list[dict[str, Any]]:
    """Count right answers among a label's posts.

    Args:
        layer: where features were removed.
        label: the posts' label.
        label_id: its place among the logits.
        sets: what was removed.
        before: logits `[post, label]` of the classifier as it is; there may be no post.
        after: logits `[set, post, label]`.
    """
    right = before.argmax(axis=-1) == label_id
    rows = []
    for chosen, logits in zip(sets, after, strict=True):
        still = logits.argmax(axis=-1) == label_id
        change = logits[:, label_id].astype(np.float64) - before[:, label_id]
        rows.append(
            {
                "layer": layer,
                "label": label,
                "condition": chosen.condition,
                "draw": chosen.draw,
                "other_label": chosen.other_label,
                "features": len(chosen.features),
                "n": len(before),
                "correct_before": int(right.sum()),
                "correct_after": int(still.sum()),
                "lost": int((right & ~still).sum()),
                "gained": int((still & ~right).sum()),
                "logit_change": float(change.mean()) if len(before) else None,
            }
        )
    return rows
