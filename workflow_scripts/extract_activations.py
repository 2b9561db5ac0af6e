"""Write the activation caches of a checkpoint: every configured layer from one pass of the model.

Shards come first and the manifests last; what an interrupted run has finished is not redone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residual_pass import hook_name
from glossogenesis.models.residuals import Window, check_layers, residual_windows
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.progress import progress
from glossogenesis.storage.activations.cache import ActivationCache, CacheDescription
from glossogenesis.storage.activations.rows import bytes_of_a_row
from glossogenesis.storage.activations.shards import require_room
from glossogenesis.storage.activations.writer import CacheWriter

SPLITS_OF_MODES = {"cache": ("held_out", "train"), "stream": ("held_out",)}


def main() -> None:
    """Write the caches of one checkpoint."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        corpus={"help": "manifest of the tokenised corpus"},
        batch_size={"type": int},
        device={"type": str},
        threads={"type": int},
        output={"help": "folder that gets layer_{layer}/manifest.json"},
    )
    torch.set_num_threads(arguments.threads)
    settings = arguments.settings
    manifest = CheckpointManifest.read(arguments.checkpoint)
    corpus = TokenisedCorpus.read(arguments.corpus)
    check_tokenizer(manifest, corpus, arguments.checkpoint)
    loaded = load_model(manifest.location, dtype=settings["dtype"], device=arguments.device)
    check_layers(loaded.anatomy, settings["layers"], f"{manifest.model} {manifest.checkpoint}")
    descriptions = {
        layer: describe(layer, settings, manifest, corpus, loaded.anatomy)
        for layer in settings["layers"]
    }
    of_one_layer = replace(
        provenance_of(
            arguments,
            "activations",
            {"checkpoint": arguments.checkpoint, "corpus": arguments.corpus},
            model=manifest.model,
            checkpoint=manifest.checkpoint,
            revision=manifest.commit,
            seed=settings["seed"],
            dtype=settings["dtype"],
            device=loaded.anatomy.device.type,
        ),
        settings=settings_of_a_layer(settings),
    )
    provenances = {layer: replace(of_one_layer, layer=layer) for layer in descriptions}
    with CacheWriter(arguments.output, descriptions, provenances) as writer:
        splits = SPLITS_OF_MODES[settings["activations"]["mode"]]
        require_room(arguments.output, bytes_to_write(writer, corpus, splits, descriptions))
        for split in splits:
            extract(writer, split, loaded.anatomy, corpus, manifest, settings, arguments.batch_size)
        report(writer.finish())


def check_tokenizer(
    manifest: CheckpointManifest, corpus: TokenisedCorpus, checkpoint: Path
) -> None:
    """StudyError where the corpus was tokenised by another tokenizer than the checkpoint's."""
    if corpus.tokenizer_digest != manifest.tokenizer_digest:
        raise StudyError(
            f"{checkpoint}: checkpoint {manifest.checkpoint!r} has another tokenizer than the one "
            f"that made {corpus.folder}; give it another model name in the sheet"
        )


def bytes_to_write(
    writer: CacheWriter,
    corpus: TokenisedCorpus,
    splits: Sequence[str],
    descriptions: Mapping[int, CacheDescription],
) -> int:
    """Return the bytes of all shards that are not there yet."""
    rows = sum(
        sum(corpus.facts(split).tokens.values()) - writer.rows_finished(split) for split in splits
    )
    return sum(rows * bytes_of_a_row(each.d_model, each.dtype) for each in descriptions.values())


def settings_of_a_layer(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what shapes the cache of one layer.

    A study that adds a layer, or divides layers among jobs, leaves the caches of the others alone.
    """
    activations = {
        key: value for key, value in settings["activations"].items() if key != "layers_per_job"
    }
    kept = {key: value for key, value in settings.items() if key != "layers"}
    return kept | {"activations": activations}


def describe(
    layer: int,
    settings: dict[str, Any],
    manifest: CheckpointManifest,
    corpus: TokenisedCorpus,
    anatomy: Anatomy,
) -> CacheDescription:
    """Return what the cache of one layer is."""
    return CacheDescription(
        model=manifest.model,
        checkpoint=manifest.checkpoint,
        corpus=settings["corpus"],
        layer=layer,
        hook=hook_name(anatomy, layer),
        d_model=anatomy.d_model,
        dtype=settings["activations"]["dtype"],
        languages=corpus.languages,
        context=corpus.context,
        window=settings["activations"]["window"],
        # What transformers can load: a Hub id, or a folder.
        source=manifest.source if manifest.commit else manifest.folder,
        revision=manifest.commit,
        tokenizer_digest=manifest.tokenizer_digest,
    )


def extract(
    writer: CacheWriter,
    split: str,
    anatomy: Anatomy,
    corpus: TokenisedCorpus,
    manifest: CheckpointManifest,
    settings: dict[str, Any],
    batch_size: int,
) -> None:
    """Write the shards of one split that are not there yet."""
    activations = settings["activations"]
    bar = progress(
        total=sum(corpus.facts(split).tokens.values()), label=f"{split} tokens", unit="token"
    )
    bar.update(writer.rows_finished(split))
    windows: Iterator[Window] = residual_windows(
        anatomy,
        corpus,
        split,
        settings["layers"],
        window=activations["window"],
        seed=settings["seed"],
        batch_size=batch_size,
        dtype=activations["dtype"],
        not_finite=activations["not_finite"],
        described_as=f"{manifest.model} {manifest.checkpoint}",
        skip=writer.finished(split),
    )
    for window in windows:
        rows = {layer: window.rows_of(layer) for layer in settings["layers"]}
        writer.add(split, window.number, rows, window.dropped_rows)
        bar.update(len(window) + window.dropped_rows)
    bar.close()


def report(caches: list[ActivationCache]) -> None:
    """Print what was written, for the log."""
    cache = caches[0]
    counts = ", ".join(f"{split.rows} {name}" for name, split in cache.splits.items())
    print(f"{len(caches)} layers, tokens of each: {counts}; {cache.dropped_rows} dropped")


if __name__ == "__main__":
    run_program(main)
