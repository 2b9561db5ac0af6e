"""An activation cache of random activations, written without a model."""

from __future__ import annotations

from pathlib import Path

import torch

from glossogenesis.storage.activations.cache import (
    ID_DTYPES,
    STORED_DTYPES,
    ActivationCache,
    ActivationRows,
    CacheDescription,
)
from glossogenesis.storage.activations.writer import CacheWriter
from glossogenesis.storage.provenance import Provenance

D_MODEL = 6
SHARDS = {"train": (7, 7, 5), "held_out": (4, 2)}
"""Rows of each shard of each split."""


def tiny_rows(n_rows: int, *, seed: int, dtype: str = "bfloat16") -> ActivationRows:
    """Random activations; token ids count the rows."""
    generator = torch.Generator().manual_seed(seed)
    ids = {name: torch.arange(n_rows).to(id_dtype) for name, id_dtype in ID_DTYPES.items()}
    activations = torch.randn(n_rows, D_MODEL, generator=generator).to(STORED_DTYPES[dtype])
    return ActivationRows.of(activations, ids)


def tiny_description(layer: int, dtype: str = "bfloat16") -> CacheDescription:
    """A cache of `tiny_rows`."""
    return CacheDescription(
        model="tiny",
        checkpoint="step1",
        corpus="text",
        layer=layer,
        hook=f"model.layers.{layer}",
        d_model=D_MODEL,
        dtype=dtype,
        languages=("en", "ru"),
        context=4,
        window=7,
        source="tiny/model",
        revision="0123",
        tokenizer_digest="4567",
    )


def tiny_provenance(layer: int, **settings: object) -> Provenance:
    """Where `tiny_rows` come from."""
    return Provenance("activations", "test", settings, inputs={}, code="0", layer=layer)


def tiny_writer(folder: Path, *layers: int, **settings: object) -> CacheWriter:
    """A writer of some layers; `settings` tell one computation from another."""
    return CacheWriter(
        folder,
        {layer: tiny_description(layer) for layer in layers},
        {layer: tiny_provenance(layer, **settings) for layer in layers},
    )


def window_of(number: int, n_rows: int, *layers: int) -> dict[int, ActivationRows]:
    """A window of equally many rows in each layer."""
    return {layer: tiny_rows(n_rows, seed=100 * layer + number) for layer in layers}


def write_tiny_caches(folder: Path, *layers: int) -> list[ActivationCache]:
    """Write both splits of some layers, windows that an earlier run has finished left out."""
    with tiny_writer(folder, *layers) as writer:
        for split, shards in SHARDS.items():
            for number, n_rows in enumerate(shards):
                if number not in writer.finished(split):
                    writer.add(split, number, window_of(number, n_rows, *layers), dropped_rows=0)
        return writer.finish()
