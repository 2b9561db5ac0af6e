"""Read the activation cache of one layer: a manifest, and the shards that it vouches for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.storage.activations.rows import ActivationRows
from glossogenesis.storage.activations.shards import ShardFacts, read_shard
from glossogenesis.storage.files import read_json, write_json
from glossogenesis.storage.records import Count, record_of

MANIFEST = "manifest.json"


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
                f"{self.manifest.parent}: its {split} activations were purged; {self._mend}"
            )

        def read(facts: ShardFacts) -> ActivationRows:
            path = self.manifest.parent / facts.file
            return read_shard(path, facts, self._mend, verify=verify)

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
    def _mend(self) -> str:
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
