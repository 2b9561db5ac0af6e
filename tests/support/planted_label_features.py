"""Features of a made-up robustness study: by feature, by post, cues, and spelling variants."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from glossogenesis.robustness.cues import CUES_SCHEMA
from glossogenesis.robustness.label_tables import FEATURES_SCHEMA, POST_FEATURES_SCHEMA
from glossogenesis.robustness.spellings import SURVIVAL_SCHEMA
from support.planted_models import LABELS, POSTS, Planted

CONCEPTS = ("camera", "egg", "onion", "ramen", "train")


def features(model: Planted) -> pl.DataFrame:
    """50 features, 20 of which distinguish a label; those that are not specific, two labels."""
    variety = np.array([1] * model.specific + [2] * (20 - model.specific) + [0] * 30)
    return _filled(FEATURES_SCHEMA, feature=np.arange(50), variety=variety)


def post_features(model: Planted, layer: int) -> pl.DataFrame:
    """L0 is 5, 6, ... by layer, one more where posts are long; the last post has no tokens."""
    number = np.arange(len(LABELS) * POSTS)
    tokens = np.where(number % 2, 20, 10)
    tokens[-1] = 0
    l0 = pl.Series(5.0 + layer + number % 2 + (model.model == "other")).set(
        pl.Series(tokens == 0), None
    )
    return _filled(
        POST_FEATURES_SCHEMA,
        number=number,
        tokens=tokens,
        l0=l0,
        active=12 + number % 5,
        top_ratio=l0 / 20,
        squared_error=tokens * 0.5,
        squared_norm=tokens * 8.0,
    )


def cues(model: Planted, layer: int) -> pl.DataFrame:
    """Three features a label, the share falling with rank; the last label has none."""
    rows = []
    for place, label in enumerate(LABELS[:-1]):
        for rank in range(3):
            share = model.share - 0.05 * rank + 0.02 * place
            rows.append(
                {"label": label, "rank": rank, "feature": 3 * place + rank, "d": 2.0 - rank}
                | {"n": 100, "top_token_id": 7, "top_token": "車", "top_token_share": share}
                | {"unique_tokens": 10 + rank + layer, "top_surface": label}
                | {"top_surface_share": share + 0.1, "unique_surfaces": 6 + rank + layer}
                | {"surfaces": [label, "です"], "counts": [60 - rank, 20]}
            )
    return pl.DataFrame(rows, CUES_SCHEMA)


def survival(model: Planted) -> pl.DataFrame:
    """Ordered pairs of three spellings a concept; concepts differ a little."""
    kinds = ("kanji", "hiragana", "katakana")
    rows = []
    for layer in model.layers:
        for arm in ("sentence", "carrier"):
            for step, k in enumerate((20, 50)):
                for place, concept in enumerate(CONCEPTS):
                    for first in kinds:
                        for second in kinds:
                            if first == second:
                                continue
                            value = model.survival + 0.1 * step + 0.02 * (place - 2)
                            rows.append(
                                {"layer": layer, "arm": arm, "k": k, "concept": concept}
                                | {"first": first, "second": second, "first_kind": first}
                                | {
                                    "second_kind": second,
                                    "survival": value + 0.1 * (arm == "carrier"),
                                }
                                | {"chance": k / 200, "n_active": 200}
                                | {
                                    "first_features": k,
                                    "second_features": k - (k == 50 and not place),
                                }
                            )
    return _of_schema(pl.DataFrame(rows), SURVIVAL_SCHEMA)


def _filled(schema: pl.Schema, **columns: Any) -> pl.DataFrame:
    return _of_schema(pl.DataFrame(columns), schema)


def _of_schema(table: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """A table with the columns of a schema, those that it lacks being null."""
    absent = [name for name in schema if name not in table.columns]
    return table.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent).select(
        pl.col(name).cast(dtype) for name, dtype in schema.items()
    )
