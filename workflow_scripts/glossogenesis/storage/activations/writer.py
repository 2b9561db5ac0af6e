"""Write the activation caches of several layers at once, while the model computes on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from glossogenesis.storage.activations.cache import (
    MANIFEST,
    ActivationCache,
    ActivationRows,
    CacheDescription,
    ShardFacts,
    SplitShards,
    is_intact,
    write_shard,
)
from glossogenesis.storage.files import read_json, record_of, write_json
from glossogenesis.storage.provenance import Provenance, settings_digest

JOURNAL = "unfinished.json"
"""Beside the folders of the layers while they are written: the windows that are done."""


@dataclass(frozen=True)
class FinishedWindow:
    """A window whose shards are written for every layer."""

    dropped_rows: int
    shards: Mapping[int, ShardFacts]
    """By layer."""


class CacheWriter:
    """Writes windows of all layers in another thread, and the manifests last.

    At most one window waits to be written or is being written, so no more than two are in memory.
    An error of the other thread is raised by the next call. What an interrupted run has finished is
    recorded in a journal and taken over by the next run of the same computation.
    """

    def __init__(
        self,
        folder: Path,
        descriptions: Mapping[int, CacheDescription],
        provenances: Mapping[int, Provenance],
    ) -> None:
        """Start writing to `folder`, of which old manifests, and shards not taken over, vanish.

        Args:
            folder: gets a folder `layer_{layer}` for each layer.
            descriptions: what is written, by layer.
            provenances: what it is made from, by layer.
        """
        self._folder = folder
        self._descriptions = descriptions
        self._provenances = provenances
        self._key = settings_digest(
            {
                str(layer): [asdict(descriptions[layer]), provenances[layer].to_metadata()]
                for layer in descriptions
            }
        )
        self._finished = self._taken_over()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write-shards")
        self._writing: Future[None] | None = None
        self._clear()

    def finished(self, split: str) -> frozenset[int]:
        """Numbers of the windows of a split that need not be computed again."""
        return frozenset(self._finished.get(split, {}))

    def rows_finished(self, split: str) -> int:
        """Tokens of a split, dropped ones included, that need not be computed again."""
        return sum(
            window.dropped_rows + next(iter(window.shards.values())).rows
            for window in self._finished.get(split, {}).values()
        )

    def rows_dropped(self, split: str) -> int:
        """Tokens of a split that were dropped among those that need not be computed again."""
        return sum(window.dropped_rows for window in self._finished.get(split, {}).values())

    def add(
        self, split: str, number: int, rows: Mapping[int, ActivationRows], dropped_rows: int
    ) -> None:
        """Hand over a window, by layer; waits until the one before is written.

        Raises:
            StudyError: the disk was full when the window before was written.
        """
        self._wait()
        self._writing = self._thread.submit(self._write, split, number, rows, dropped_rows)

    def finish(self) -> list[ActivationCache]:
        """Wait for the last window, write the manifests, and return the caches.

        Raises:
            StudyError: the disk is full.
        """
        self._wait()
        caches = [self._cache(layer) for layer in self._descriptions]
        for cache in caches:
            cache.write()
        (self._folder / JOURNAL).unlink(missing_ok=True)
        return caches

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(
        self, split: str, number: int, rows: Mapping[int, ActivationRows], dropped_rows: int
    ) -> None:
        shards = {
            layer: write_shard(
                self._layer_folder(layer) / f"{split}_{number:05d}.safetensors",
                of_layer,
                self._provenances[layer],
            )
            for layer, of_layer in rows.items()
        }
        self._finished.setdefault(split, {})[number] = FinishedWindow(dropped_rows, shards)
        write_json(self._folder / JOURNAL, {"key": self._key, "splits": self._journal()})

    def _journal(self) -> dict[str, dict[int, dict[str, object]]]:
        return {
            split: {number: asdict(window) for number, window in windows.items()}
            for split, windows in self._finished.items()
        }

    def _taken_over(self) -> dict[str, dict[int, FinishedWindow]]:
        """Windows that an interrupted run of the same computation wrote, and that are intact."""
        path = self._folder / JOURNAL
        journal = read_json(path) if path.is_file() else {}
        if journal.get("key") != self._key:
            return {}
        found: dict[str, dict[int, FinishedWindow]] = {}
        for split, windows in journal["splits"].items():
            for number, entry in windows.items():
                shards = {
                    int(layer): record_of(ShardFacts, facts)
                    for layer, facts in entry["shards"].items()
                }
                if all(
                    is_intact(self._layer_folder(layer) / facts.file, facts)
                    for layer, facts in shards.items()
                ):
                    window = FinishedWindow(entry["dropped_rows"], shards)
                    found.setdefault(split, {})[int(number)] = window
        return found

    def _clear(self) -> None:
        """Remove manifests, which no longer hold, and files that nothing vouches for."""
        for layer in self._descriptions:
            folder = self._layer_folder(layer)
            kept = {
                window.shards[layer].file
                for windows in self._finished.values()
                for window in windows.values()
            }
            (folder / MANIFEST).unlink(missing_ok=True)
            for path in (*folder.glob("*.safetensors"), *folder.glob(".*.safetensors.*.part")):
                if path.name not in kept:
                    path.unlink()

    def _cache(self, layer: int) -> ActivationCache:
        windows = {split: self._finished[split] for split in sorted(self._finished)}
        return ActivationCache(
            manifest=self._layer_folder(layer) / MANIFEST,
            description=self._descriptions[layer],
            dropped_rows=sum(
                window.dropped_rows for split in windows.values() for window in split.values()
            ),
            splits={
                name: SplitShards.of(tuple(split[number].shards[layer] for number in sorted(split)))
                for name, split in windows.items()
            },
            provenance=asdict(self._provenances[layer]),
        )

    def _layer_folder(self, layer: int) -> Path:
        return self._folder / f"layer_{layer}"
