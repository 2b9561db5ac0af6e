"""From a model and a tokenised corpus to the activation caches of several layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residual_pass import hook_name
from glossogenesis.models.residuals import Positions, Window
from glossogenesis.progress import progress
from glossogenesis.storage.activations.cache import CacheDescription
from glossogenesis.storage.activations.rows import bytes_of_a_row
from glossogenesis.storage.activations.writer import CacheWriter


@dataclass(frozen=True)
class CachedModel:
    """A model and the corpus that it reads, as a cache's manifest names them."""

    manifest: CheckpointManifest
    anatomy: Anatomy
    corpus: TokenisedCorpus

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


def check_tokenizer(manifest: CheckpointManifest, corpus: TokenisedCorpus, path: Path) -> None:
    """StudyError where the corpus was not tokenised by the tokenizer of the model at `path`."""
    if corpus.tokenizer_digest != manifest.tokenizer_digest:
        raise StudyError(
            f"{path}: {manifest.model} {manifest.checkpoint} has another tokenizer than the one "
            f"that made {corpus.folder}; give the corpus that was tokenised for it"
        )


def tokens_of(corpus: TokenisedCorpus, split: str, positions: Positions) -> int:
    """Return how many tokens of a split are stored, those that are not finite included."""
    facts = corpus.facts(split)
    return facts.contexts if positions == "last" else sum(facts.tokens.values())


def bytes_to_write(
    writer: CacheWriter, tokens: Mapping[str, int], descriptions: Iterable[CacheDescription]
) -> int:
    """Return the bytes of the shards that are not there yet; `tokens` are those of each split."""
    rows = sum(number - writer.rows_finished(split) for split, number in tokens.items())
    return sum(rows * bytes_of_a_row(each.d_model, each.dtype) for each in descriptions)


def write_windows(
    writer: CacheWriter, split: str, windows: Iterable[Window], layers: Sequence[int], tokens: int
) -> None:
    """Hand the windows of a split that are not written yet to the writer.

    `tokens` are those of the whole split, for the progress display.
    """
    with progress(total=tokens, label=f"{split} tokens", unit="token") as bar:
        bar.update(writer.rows_finished(split))
        for window in windows:
            rows = {layer: window.rows_of(layer) for layer in layers}
            writer.add(split, window.number, rows, window.dropped_rows)
            bar.update(len(window) + window.dropped_rows)
