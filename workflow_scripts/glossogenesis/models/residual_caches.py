"""From a model and a tokenised corpus to the activation caches of several layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import NotFiniteError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residuals import (
    NotFinite,
    Positions,
    check_layers,
    hook_name,
    residual_windows,
)
from glossogenesis.progress import progress
from glossogenesis.storage.activations.cache import (
    ActivationCache,
    CacheDescription,
    bytes_of_a_row,
    require_room,
)
from glossogenesis.storage.activations.writer import CacheWriter
from glossogenesis.storage.provenance import Provenance


@dataclass(frozen=True)
class CachedModel:
    """A model and the corpus that it reads, as a cache's manifest names them."""

    manifest: CheckpointManifest
    anatomy: Anatomy
    corpus: TokenisedCorpus
    described_as: str
    """In messages."""

    def describe(self, layer: int, *, dtype: str, window: int) -> CacheDescription:
        """What the cache of one layer is, stored in `dtype` and in windows of `window` tokens."""
        manifest = self.manifest
        return CacheDescription(
            model=manifest.model,
            checkpoint=manifest.checkpoint,
            corpus=self.corpus.corpus,
            layer=layer,
            hook=hook_name(self.anatomy, layer),
            d_model=self.anatomy.d_model,
            dtype=dtype,
            languages=self.corpus.languages,
            context=self.corpus.context,
            window=window,
            # What transformers can load: a Hub id, or a folder.
            source=manifest.source if manifest.commit else manifest.folder,
            revision=manifest.commit,
            tokenizer_digest=manifest.tokenizer_digest,
        )


@dataclass(frozen=True)
class CacheRules:
    """What is stored; each field as of `residual_windows`."""

    splits: Sequence[str]
    window: int
    seed: int
    dtype: str
    not_finite: NotFinite
    positions: Positions = "all"
    section: str = "features"


def of_each_layer(
    provenance: Provenance, layers: Sequence[int], settings: Mapping[str, Any]
) -> dict[int, Provenance]:
    """Return what the cache of each layer is made from; `settings` are those that shape one."""
    return {layer: replace(provenance, settings=settings, layer=layer) for layer in layers}


def write_caches(
    folder: Path,
    cached: CachedModel,
    rules: CacheRules,
    provenances: Mapping[int, Provenance],
    *,
    batch_size: int,
) -> list[ActivationCache]:
    """Write the caches of several layers from one pass of the model; one that is there stays.

    Args:
        folder: gets `layer_{layer}/manifest.json` with the shards beside it.
        cached: the model and what it reads.
        rules: what is stored.
        provenances: by wanted layer.
        batch_size: contexts in one forward pass.

    Raises:
        NotFiniteError: most tokens of a split are dropped.
        StudyError: the model lacks a layer, the disk has too little room, or what
            `residual_windows` says.
    """
    layers, corpus = list(provenances), cached.corpus
    check_layers(cached.anatomy, layers, cached.described_as)
    descriptions = _descriptions(cached, rules, layers)
    tokens = {split: tokens_of(corpus, split, rules.positions) for split in rules.splits}
    with CacheWriter(folder, descriptions, provenances) as writer:
        require_room(folder, _bytes_to_write(writer, tokens, descriptions.values()))
        for split in rules.splits:
            done, dropped = writer.rows_finished(split), writer.rows_dropped(split)
            with progress(
                total=tokens[split], done=done, label=f"{split} tokens", unit="token"
            ) as bar:
                for window in residual_windows(
                    cached.anatomy,
                    corpus,
                    split,
                    layers,
                    window=rules.window,
                    seed=rules.seed,
                    batch_size=batch_size,
                    dtype=rules.dtype,
                    not_finite=rules.not_finite,
                    positions=rules.positions,
                    section=rules.section,
                    described_as=cached.described_as,
                    skip=writer.finished(split),
                    on_batch=bar.update,
                ):
                    rows = {layer: window.rows_of(layer) for layer in layers}
                    writer.add(split, window.number, rows, window.dropped_rows)
                    dropped += window.dropped_rows
                    if dropped * 2 > tokens[split]:
                        what = f"activations of most {split} tokens"
                        dtype = str(cached.anatomy.dtype).removeprefix("torch.")
                        raise NotFiniteError.of_model(cached.described_as, what, dtype)
        return writer.finish()


def write_empty_caches(
    folder: Path, cached: CachedModel, rules: CacheRules, provenances: Mapping[int, Provenance]
) -> None:
    """Write manifests of no activations, in the place of all that is there; as `write_caches`."""
    descriptions = _descriptions(cached, rules, provenances)
    with CacheWriter(folder, descriptions, provenances) as writer:
        writer.finish()


def tokens_of(corpus: TokenisedCorpus, split: str, positions: Positions) -> int:
    """Return how many tokens of a split are stored, those that are not finite included."""
    facts = corpus.facts(split)
    return facts.contexts if positions == "last" else sum(facts.tokens.values())


def caches_in_words(caches: Sequence[ActivationCache]) -> str:
    """Return how much was written, for the log; `caches` are one a layer."""
    cache = caches[0]
    counts = ", ".join(f"{split.rows} {name}" for name, split in cache.splits.items())
    return f"{len(caches)} layers, tokens of each: {counts}; {cache.dropped_rows} dropped"


def _descriptions(
    cached: CachedModel, rules: CacheRules, layers: Iterable[int]
) -> dict[int, CacheDescription]:
    return {
        layer: cached.describe(layer, dtype=rules.dtype, window=rules.window) for layer in layers
    }


def _bytes_to_write(
    writer: CacheWriter, tokens: Mapping[str, int], descriptions: Iterable[CacheDescription]
) -> int:
    """Return the bytes of the shards that are not there yet; `tokens` are those of each split."""
    rows = sum(number - writer.rows_finished(split) for split, number in tokens.items())
    return sum(rows * bytes_of_a_row(each.d_model, each.dtype) for each in descriptions)
