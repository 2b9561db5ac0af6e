"""Ways to break the content of a file."""

from __future__ import annotations

import dataclasses
import json
from io import BytesIO
from typing import Any

import polars as pl
from hypothesis import strategies as st

from glossogenesis.storage.provenance import METADATA_KEY, SEAL_KEY
from support.fuzz.good_files import PROVENANCE
from support.hostile_content import (
    json_texts,
    mutated,
    mutated_bytes,
    plain,
    yaml_texts,
)
from support.hostile_content import tables as broken_tables


def bad_yaml(good: bytes) -> st.SearchStrategy[bytes]:
    return yaml_texts(good.decode())


def bad_table(good: bytes) -> st.SearchStrategy[bytes]:
    return broken_tables(good.decode())


def bad_list(good: bytes) -> st.SearchStrategy[bytes]:
    return broken_tables(good.decode(), ",")


def bad_json(good: bytes) -> st.SearchStrategy[bytes]:
    """A JSON file, mostly without its seal, which alone would tell that it was changed."""
    content = json.loads(good)
    return (
        json_texts(without_seal(content)) | json_texts(without_seal(content)) | json_texts(content)
    )


def without_seal(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_seal(value) for key, value in content.items() if key != SEAL_KEY}
    return content


def bad_provenance(good: bytes) -> st.SearchStrategy[bytes]:
    """A Parquet file whose metadata is broken."""
    entry = dataclasses.asdict(PROVENANCE)

    def written(text: bytes) -> bytes:
        buffer = BytesIO()
        metadata = {METADATA_KEY: text.decode("utf-8", "replace")}
        pl.DataFrame({"a": [1, 2]}).write_parquet(buffer, metadata=metadata)
        return buffer.getvalue()

    return json_texts(entry).map(written)


def bad_header(good: bytes) -> st.SearchStrategy[bytes]:
    """A safetensors file whose header is broken: shapes, offsets, types, metadata."""
    size = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + size])

    def written(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + good[8 + size :]

    return json_texts(header).map(written)


def bad_configuration(good: bytes) -> st.SearchStrategy[bytes]:
    """A model's configuration with other types and small numbers: large ones only take memory."""
    content = json.loads(good)
    values = st.sampled_from([None, "x", "", [], {}, [1], -1, 0, 1, 3, 2.5, True, "llama", "gpt2"])
    return st.dictionaries(st.sampled_from(sorted(content)), values, min_size=1, max_size=3).map(
        lambda changed: json.dumps(content | changed).encode()
    )


def bad_json_lines(good: bytes) -> st.SearchStrategy[bytes]:
    lines = [json.loads(line) for line in good.splitlines()]
    several = mutated(lines).filter(lambda rows: isinstance(rows, list))
    objects = several.map(lambda rows: b"\n".join(json.dumps(row).encode() for row in plain(rows)))
    return objects | mutated_bytes(good)
