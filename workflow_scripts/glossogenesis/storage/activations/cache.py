"""The activation cache of one layer: a small manifest, and the checked shards beside it."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import (
    Count,
    PlainName,
    atomic_path,
    read_json,
    record_of,
    write_json,
)
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tensors import safetensors_parts

MANIFEST = "manifest.json"

OPTIONS = (
    "Free some space, or write less: fewer `layers` or `train_tokens`, `activations.dtype: "
    "bfloat16`, or in a features study `activations.mode: stream`, which writes held-out "
    "activations alone; `glossogenesis purge` deletes activations that are no longer needed"
)
"""What to do where a disk is too small for activations."""

STORED_DTYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""Number formats of stored activations, by their names in a study."""

ID_DTYPES: dict[str, torch.dtype] = {
    "token_ids": torch.int32,
    "documents": torch.int32,
    "positions": torch.int32,
    "contexts": torch.int32,
    "columns": torch.int32,
    "languages": torch.uint8,
    "token_languages": torch.uint8,
}
"""The ids of a row and their number formats."""


@dataclass(frozen=True)
class CacheDescription:
    """What the activations of one layer are."""

    model: str
    checkpoint: str
    corpus: str
    layer: int
    hook: str
    """Dotted name of the block in the transformers model, such as `model.layers.3`."""
    d_model: int
    dtype: str
    """Stored number format, `bfloat16` or `float32`."""
    languages: tuple[str, ...]
    """Codes that `languages` and `token_languages` of the rows are indices of."""
    context: int
    """Tokens of a sequence."""
    window: int
    """Most tokens that were shuffled together, and most rows of a shard."""
    source: str
    """Hub id or folder of the model, as in the checkpoint's manifest."""
    revision: str | None
    tokenizer_digest: str


@dataclass(frozen=True)
class ShardFacts:
    """What a manifest records of a shard."""

    file: PlainName
    rows: Count
    bytes: Count
    sha256: str


@dataclass(frozen=True)
class SplitShards:
    """The shards of one split, in their order."""

    rows: Count
    shards: tuple[ShardFacts, ...]

    @classmethod
    def of(cls, shards: tuple[ShardFacts, ...]) -> SplitShards:
        """The split that consists of some shards."""
        return cls(sum(facts.rows for facts in shards), shards)


@dataclass(frozen=True)
class ActivationCache:
    """The activations of one layer of one checkpoint over one corpus."""

    manifest: Path
    description: CacheDescription
    dropped_rows: int
    """Tokens left out because an activation of some layer is NaN or infinite."""
    splits: Mapping[str, SplitShards]
    provenance: Mapping[str, Any]

    @classmethod
    def open(cls, manifest: Path | str) -> ActivationCache:
        """Read a manifest; shards are not touched.

        Raises:
            StudyError: it is missing, or not a manifest of activations; where other layers lie
                beside it, the message names them.
        """
        manifest = Path(manifest)
        if not manifest.is_file():
            raise StudyError(f"{manifest}: no such cache{_layers_beside(manifest)}")
        content = read_json(manifest)
        try:
            return cls(
                splits=record_of(dict[str, SplitShards], content.pop("splits")),
                dropped_rows=record_of(Count, content.pop("dropped_rows")),
                provenance=record_of(dict[str, Any], content.pop("provenance")),
                description=record_of(CacheDescription, content),
                manifest=manifest,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StudyError(
                f"{manifest}: not a manifest of activations ({error}); delete it and rerun"
            ) from None

    def write(self) -> None:
        """Write the manifest; equal caches give equal bytes."""
        write_json(
            self.manifest,
            asdict(self.description)
            | {
                "dropped_rows": self.dropped_rows,
                "splits": {name: asdict(split) for name, split in self.splits.items()},
                "provenance": dict(self.provenance),
            },
        )

    @property
    def origin(self) -> dict[str, Any]:
        """What the provenance of an artifact says of the layer that it was made from."""
        of = self.description
        named = {"model": of.model, "checkpoint": of.checkpoint, "revision": of.revision}
        return {**named, "layer": of.layer}

    @property
    def model(self) -> str:
        """Name of the model in the study."""
        return self.description.model

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint in the study."""
        return self.description.checkpoint

    @property
    def corpus(self) -> str:
        """Name of the corpus in the study."""
        return self.description.corpus

    @property
    def layer(self) -> int:
        """The layer, counted from 0."""
        return self.description.layer

    @property
    def hook(self) -> str:
        """Dotted name of the block in the transformers model."""
        return self.description.hook

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.description.d_model

    @property
    def dtype(self) -> str:
        """Stored number format."""
        return self.description.dtype

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes that the rows' language numbers are indices of."""
        return self.description.languages

    @property
    def context(self) -> int:
        """Tokens of a sequence."""
        return self.description.context

    @property
    def window(self) -> int:
        """Most rows of a shard."""
        return self.description.window

    @property
    def source(self) -> str:
        """Hub id or folder of the model."""
        return self.description.source

    @property
    def revision(self) -> str | None:
        """Revision of the model."""
        return self.description.revision

    @property
    def tokenizer_digest(self) -> str:
        """Digest of the tokenizer that made the token ids."""
        return self.description.tokenizer_digest

    def rows_in(self, split: str) -> int:
        """Rows of a split, `train` or `held_out`; StudyError where the cache lacks it."""
        return self._split(split).rows

    def rows_of_shards(self, split: str) -> tuple[int, ...]:
        """Rows of each shard of a split; StudyError where the cache lacks it."""
        return tuple(facts.rows for facts in self._split(split).shards)

    def shards(
        self, split: str, *, first: int = 0, verify: bool = True, prefetch: int = 1
    ) -> Iterator[ActivationRows]:
        """Rows of a split shard by shard, in stored order.

        Args:
            split: `train` or `held_out`.
            first: number of the shard to start at.
            verify: whether SHA-256 is compared; sizes always are.
            prefetch: shards that another thread reads ahead.

        Raises:
            StudyError: the cache lacks the split, was purged, or a shard is missing, truncated or
                changed; the message names it and says how to remake it.
        """
        shards = self._split(split).shards[first:]
        if self.is_purged(split):
            raise StudyError(
                f"{self.manifest.parent}: its {split} activations were purged; {self._fix}"
            )

        def read(facts: ShardFacts) -> ActivationRows:
            path = self.manifest.parent / facts.file
            return read_shard(path, facts, self._fix, verify=verify)

        waiting = iter(shards)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-shards") as reader:
            ahead: deque[Future[ActivationRows]] = deque()
            try:
                for facts in waiting:
                    ahead.append(reader.submit(read, facts))
                    if len(ahead) > prefetch:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                reader.shutdown(wait=False, cancel_futures=True)

    def is_purged(self, split: str) -> bool:
        """Whether none of the shards of a split is there any more."""
        shards = self._split(split).shards
        folder = self.manifest.parent
        return bool(shards) and not any((folder / facts.file).exists() for facts in shards)

    def _split(self, split: str) -> SplitShards:
        if split not in self.splits:
            raise StudyError(
                f"{self.manifest}: holds no {split!r} activations, only "
                f"{', '.join(sorted(self.splits))}; set `features.activations.mode: cache` and "
                "rerun"
            )
        return self.splits[split]

    @property
    def _fix(self) -> str:
        return f"delete {self.manifest} and rerun: equal activations are made again"


def purge_shards(manifest: Path) -> int:
    """Delete the shards of a cache and keep its manifest; return the bytes that this freed."""
    cache = ActivationCache.open(manifest)
    freed = 0
    for split in cache.splits.values():
        for facts in split.shards:
            path = cache.manifest.parent / facts.file
            if path.is_file():
                freed += path.stat().st_size
                path.unlink()
    return freed


def _layers_beside(manifest: Path) -> str:
    """What to do about a missing manifest, with the layers that the checkpoint's cache has."""
    others = sorted(
        (path.parent.name for path in manifest.parent.parent.glob(f"layer_*/{MANIFEST}")),
        key=lambda name: (len(name), name),
    )
    if not others:
        return "; run the workflow to make it"
    return (
        f" among {', '.join(others)}; add the layer to the model's `layers` in the study and rerun"
    )


def write_shard(path: Path, rows: ActivationRows, provenance: Provenance) -> ShardFacts:
    """Write the rows atomically as safetensors; return the facts for the manifest.

    Raises:
        StudyError: the disk is full; nothing of this shard remains.
    """
    digest = hashlib.sha256()
    size = 0
    with atomic_path(path, OPTIONS) as temporary, temporary.open("wb") as file:
        for part in safetensors_parts(rows.tensors, provenance.to_metadata()):
            digest.update(part)
            size += file.write(part)
    return ShardFacts(path.name, len(rows), size, digest.hexdigest())


def read_shard(path: Path, facts: ShardFacts, fix: str, *, verify: bool) -> ActivationRows:
    """Read a shard; its size, and with `verify` its SHA-256, must be what the manifest records.

    Raises:
        StudyError: it is missing, truncated or changed; `fix` says what to do.
    """
    data = _contents(path, facts, fix)
    if verify and hashlib.sha256(data).hexdigest() != facts.sha256:
        raise StudyError(f"{path}: its bytes are not those that were written; {fix}")
    try:
        return ActivationRows(**load(data))
    except (SafetensorError, TypeError) as error:
        raise StudyError(f"{path}: not a shard of activations ({error}); {fix}") from None


def require_room(folder: Path, needed: int) -> None:
    """StudyError where a folder's disk has less room than `needed` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StudyError(
            f"{folder}: {needed / 1e9:.2f} GB of activations do not fit into the "
            f"{free / 1e9:.2f} GB that are free. {OPTIONS}"
        )


def is_intact(path: Path, facts: ShardFacts) -> bool:
    """Whether a shard is there with the size and SHA-256 that were recorded."""
    if not path.is_file() or path.stat().st_size != facts.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == facts.sha256


def _contents(path: Path, facts: ShardFacts, fix: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise StudyError(f"{path}: the shard is missing; {fix}") from None
    except OSError as error:
        raise StudyError(f"{path}: the shard cannot be read ({error.strerror}); {fix}") from None
    if len(data) != facts.bytes:
        raise StudyError(f"{path}: {len(data)} bytes long, not {facts.bytes}; {fix}")
    return data


def bytes_of_a_row(d_model: int, dtype: str) -> int:
    """Bytes that a token takes in the cache of one layer, ids included."""
    ids = sum(id_dtype.itemsize for id_dtype in ID_DTYPES.values())
    return d_model * STORED_DTYPES[dtype].itemsize + ids


@dataclass(frozen=True)
class ActivationRows:
    """The residual stream after one block at some tokens; every field has one row per token."""

    activations: Tensor
    """`[row, d_model]`, bfloat16 or float32."""
    token_ids: Tensor
    """`[row]`, int32: the token in the model's vocabulary."""
    documents: Tensor
    """`[row]`, int32: number of the document in its split."""
    positions: Tensor
    """`[row]`, int32: index of the token in its document."""
    contexts: Tensor
    """`[row]`, int32: number of the context in its split."""
    columns: Tensor
    """`[row]`, int32: position of the token in its context."""
    languages: Tensor
    """`[row]`, uint8: index of the document's language in the corpus's languages."""
    token_languages: Tensor
    """`[row]`, uint8: index of the language by the token's script, 255 for none."""

    @classmethod
    def of(cls, activations: Tensor, ids: Mapping[str, Tensor]) -> ActivationRows:
        """Put activations and ids, whose names are those of `ID_DTYPES`, together."""
        return cls(activations, **{name: ids[name] for name in ID_DTYPES})

    def __len__(self) -> int:
        return self.activations.shape[0]

    @property
    def ids(self) -> dict[str, Tensor]:
        """All fields but the activations, by name."""
        return {name: getattr(self, name) for name in ID_DTYPES}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All fields, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __getitem__(self, rows: Any) -> ActivationRows:
        return ActivationRows(**{name: tensor[rows] for name, tensor in self.tensors.items()})
