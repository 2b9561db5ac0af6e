"""A small activation cache on disk, written as extraction writes it but without a model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from glossogenesis.storage.activations.cache import ID_DTYPES, ActivationRows, CacheDescription
from glossogenesis.storage.activations.writer import CacheWriter
from glossogenesis.storage.provenance import Provenance

PROVENANCE = Provenance("activations", "a-study", {}, {}, "", model="tiny", checkpoint="100")


def write_cache(
    folder: Path, train: Tensor, held_out: Tensor, *, layer: int = 3, shards: int = 3
) -> Path:
    """Write one layer's cache, training rows over several shards; return its manifest."""
    description = CacheDescription(
        model="tiny",
        checkpoint="100",
        corpus="wiki",
        layer=layer,
        hook=f"model.layers.{layer}",
        d_model=train.shape[1],
        dtype="float32",
        languages=("en", "ja"),
        context=16,
        window=-(-len(train) // shards),
        source="an/id",
        revision=None,
        tokenizer_digest="",
    )
    with CacheWriter(folder, {layer: description}, {layer: PROVENANCE}) as writer:
        for number, rows in enumerate(train.chunk(shards)):
            writer.add("train", number, {layer: with_ids(rows)}, 0)
        writer.add("held_out", 0, {layer: with_ids(held_out)}, 0)
        writer.finish()
    return folder / f"layer_{layer}" / "manifest.json"


def with_ids(activations: Tensor) -> ActivationRows:
    ids = {name: torch.zeros(len(activations), dtype=dtype) for name, dtype in ID_DTYPES.items()}
    return ActivationRows.of(activations, ids)
