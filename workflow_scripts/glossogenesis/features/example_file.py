"""Writing `examples.parquet`, whose rows need not be in memory together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from glossogenesis.storage.files import sealed_path
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.seals import sealed_metadata


def write_examples(path: Path, parts: Iterable[pl.DataFrame], provenance: Provenance) -> None:
    """Write frames of equal columns, at least one, as one Parquet file: all or nothing.

    Each frame becomes a row group; provenance and seal stand in the file's key-value
    metadata.
    """
    waiting = iter(parts)
    first = next(waiting).to_arrow(compat_level=pl.CompatLevel.oldest())
    metadata = {**(first.schema.metadata or {}), **sealed_metadata(provenance)}
    with sealed_path(path) as temporary:
        schema = first.schema.with_metadata(metadata)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            writer.write_table(first.cast(schema))
            for part in waiting:
                writer.write_table(part.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema))
