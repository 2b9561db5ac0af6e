"""Tables of component patching: pairs that are read, effects that are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import torch

from glossogenesis.errors import StudyError
from glossogenesis.models.anatomy import COMPONENTS
from glossogenesis.robustness.components.effects import ComponentEffects, PatchedPairs

EFFECTS_SCHEMA = pl.Schema(
    {
        "set": pl.String,
        "pair": pl.Int32,
        "layer": pl.Int16,
        "component": pl.String,
        "effect": pl.Float32,
        "direct": pl.Float32,  # the part of the effect that goes past all later blocks
        "direct_total": pl.Float32,  # of all components of the pair, and of the embedding
        "undefined": pl.Boolean,
        "clean_logit": pl.Float32,
        "corrupted_logit": pl.Float32,
        "patched_logit": pl.Float32,
    }
)
"""All logits are of the clean post's label; where `undefined`, effects are 0."""

_KEYS = ("clean", "corrupted", "clean_label")
_MEND = "remake the pairs with `snakemake --forcerun select_pairs`"


def distinct_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Posts and clean label of `pairs.parquet`, once where several sets have the same pair."""
    return pairs.select(_KEYS).unique(maintain_order=True)


def pairs_of_posts(
    distinct: pl.DataFrame, label_ids: Mapping[str, int], n_posts: int, path: Path
) -> PatchedPairs:
    """The pairs of `distinct_pairs`, by number of post and of label.

    Args:
        distinct: the pairs.
        label_ids: the classifier's labels and their indices.
        n_posts: number of held-out posts.
        path: the file of pairs, for messages.

    Raises:
        StudyError: a pair names a post or a label that is not there.
    """
    for post in {*distinct["clean"], *distinct["corrupted"]}:
        if not 0 <= post < n_posts:
            raise StudyError(f"{path}: held-out post {post} is not in 0..{n_posts - 1}; {_MEND}")
    for label in distinct["clean_label"].unique():
        if label not in label_ids:
            raise StudyError(f"{path}: the classifier has no label {label!r}; {_MEND}")
    labels = [label_ids[label] for label in distinct["clean_label"]]
    return PatchedPairs(
        clean=torch.tensor(distinct["clean"].to_list(), dtype=torch.int64),
        corrupted=torch.tensor(distinct["corrupted"].to_list(), dtype=torch.int64),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


def effects_table(
    pairs: pl.DataFrame, distinct: pl.DataFrame, effects: ComponentEffects
) -> pl.DataFrame:
    """Rows of `EFFECTS_SCHEMA`: the pairs in their order, each with all layers and components.

    Args:
        pairs: `pairs.parquet`.
        distinct: its `distinct_pairs`.
        effects: those of `distinct`, in its order.
    """
    n_pairs, n_layers, n_components = effects.patched.shape
    a_pair = n_layers * n_components
    columns = {
        "undefined": effects.undefined,
        "direct_total": effects.direct_total,
        "clean_logit": effects.clean,
        "corrupted_logit": effects.corrupted,
    }
    measured = distinct[torch.arange(n_pairs).repeat_interleave(a_pair).numpy()].with_columns(
        pl.Series("layer", torch.arange(n_layers).repeat_interleave(n_components).repeat(n_pairs)),
        pl.Series("component", COMPONENTS * (n_layers * n_pairs)),
        pl.Series("effect", effects.effect.flatten().numpy()),
        pl.Series("direct", effects.direct_effect.flatten().numpy()),
        pl.Series("patched_logit", effects.patched.flatten().numpy()),
        *(
            pl.Series(name, tensor.repeat_interleave(a_pair).numpy())
            for name, tensor in columns.items()
        ),
    )
    joined = pairs.join(measured, on=_KEYS, maintain_order="left_right")
    return joined.select(pl.col(name).cast(dtype) for name, dtype in EFFECTS_SCHEMA.items())
