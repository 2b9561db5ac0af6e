"""Write a tokenised corpus: bounded shards first, the manifest last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from glossogenesis.corpora.tokenised import (
    BLOCK_TENSORS,
    NO_DOCUMENT,
    VOCABULARY_FILE,
    FileFacts,
    SplitFacts,
    TokenisedCorpus,
)
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.tables import write_table
from glossogenesis.storage.tensors import write_tensors

TensorBlock = Mapping[str, np.ndarray]
"""The tensors of a `ContextBlock` as arrays `[context, position]`, by name."""

DTYPES: Mapping[str, type[np.generic]] = {
    "token_ids": np.int32,
    "documents": np.int32,
    "positions": np.int32,
    "languages": np.uint8,
    "token_languages": np.uint8,
    "kept": np.bool_,
}

BYTES_OF_A_TOKEN = sum(np.dtype(dtype).itemsize for dtype in DTYPES.values())

BYTES_OF_A_SHARD = 32_000_000
"""Size that no shard exceeds, but that one context may."""

VOCABULARY_SCHEMA = pl.Schema({"token_id": pl.Int32, "text": pl.String, "bytes": pl.Binary})


@dataclass(frozen=True)
class CorpusHeader:
    """What a manifest says of a corpus beside its files; the fields are `TokenisedCorpus`'."""

    corpus: str
    languages: tuple[str, ...]
    told_by_script: tuple[str, ...]
    context: int
    fill: str
    drop_first: bool
    tokenizer_digest: str
    pad_id: int
    end_id: int | None
    sources: Mapping[str, Mapping[str, Any]]


def write_tokenised(
    folder: Path,
    header: CorpusHeader,
    blocks: Mapping[str, Iterable[TensorBlock]],
    vocabulary: Sequence[bytes],
    provenance: Provenance,
    *,
    bytes_of_a_shard: int = BYTES_OF_A_SHARD,
) -> TokenisedCorpus:
    """Write a corpus into a folder, in place of one that is there.

    `blocks` gives the contexts of each split in order, in blocks of any size, and `vocabulary` the
    bytes of each token by its id. Shards appear as they fill; the manifest stands last, so that an
    interrupted run leaves none.
    """
    remove_corpus(folder)
    per_shard = max(1, bytes_of_a_shard // (BYTES_OF_A_TOKEN * header.context))
    splits = {
        split: _write_split(folder, split, header.languages, content, per_shard, provenance)
        for split, content in blocks.items()
    }
    table = pl.DataFrame(
        {
            "token_id": list(range(len(vocabulary))),
            "text": [token.decode("utf-8", errors="replace") for token in vocabulary],
            "bytes": list(vocabulary),
        },
        schema=VOCABULARY_SCHEMA,
    )
    write_table(folder / VOCABULARY_FILE, table, provenance)
    corpus = TokenisedCorpus(
        folder=folder,
        splits=splits,
        vocabulary_file=_facts_of(folder / VOCABULARY_FILE),
        provenance=asdict(provenance),
        **{name: getattr(header, name) for name in header.__dataclass_fields__},
    )
    corpus.write()
    return corpus


def remove_corpus(folder: Path) -> None:
    """Delete the manifest, the shards and the vocabulary in a folder, the manifest first."""
    for pattern in ("manifest.json", "train_*.safetensors", "held_out_*.safetensors"):
        for path in sorted(folder.glob(pattern)):
            path.unlink()
    (folder / VOCABULARY_FILE).unlink(missing_ok=True)


def _write_split(
    folder: Path,
    split: str,
    languages: tuple[str, ...],
    blocks: Iterable[TensorBlock],
    per_shard: int,
    provenance: Provenance,
) -> SplitFacts:
    """Write the shards of one split and count what they hold."""
    shards: list[FileFacts] = []
    tokens = np.zeros(len(languages), dtype=np.int64)
    documents = 0
    for number, block in enumerate(_regrouped(blocks, per_shard)):
        path = folder / f"{split}_{number:05d}.safetensors"
        write_tensors(
            path, {name: torch.from_numpy(block[name]) for name in BLOCK_TENSORS}, provenance
        )
        shards.append(_facts_of(path, len(block["kept"])))
        tokens += np.bincount(block["languages"][block["kept"]], minlength=len(languages))
        documents = max(documents, int(block["documents"].max(initial=NO_DOCUMENT)) + 1)
    return SplitFacts(
        contexts=sum(shard.contexts for shard in shards),
        tokens=dict(zip(languages, tokens.tolist(), strict=True)),
        documents=documents,
        shards=tuple(shards),
    )


def _regrouped(blocks: Iterable[TensorBlock], contexts: int) -> Iterator[dict[str, np.ndarray]]:
    """Regroup contexts into blocks of exactly `contexts`, but for the last."""
    held: list[TensorBlock] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block["kept"])
        while count >= contexts:
            joined = _joined(held)
            yield {name: array[:contexts] for name, array in joined.items()}
            held = [{name: array[contexts:] for name, array in joined.items()}]
            count -= contexts
    if count:
        yield _joined(held)


def _joined(blocks: Sequence[TensorBlock]) -> dict[str, np.ndarray]:
    return {
        name: np.ascontiguousarray(np.concatenate([block[name] for block in blocks]), dtype=dtype)
        for name, dtype in DTYPES.items()
    }


def _facts_of(path: Path, contexts: int = 0) -> FileFacts:
    return FileFacts(path.name, path.stat().st_size, file_digest(path), contexts)
