"""Write the activation caches of a classifier over posts: every layer from one pass of the model.

Shards come first and the manifests last; what an interrupted run has finished is not redone.
"""

from argparse import Namespace
from dataclasses import replace

import torch

from glossogenesis.config.robustness import PostActivationSettings
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residual_caches import (
    CachedModel,
    bytes_to_write,
    check_tokenizer,
    tokens_of,
    write_windows,
)
from glossogenesis.models.residuals import check_layers, residual_windows
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.provenance import Provenance
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.activations.shards import require_room
from glossogenesis.storage.activations.writer import CacheWriter

SPLITS = ("held_out", "train")


def main() -> None:
    """Write the caches of one classifier."""
    arguments = program_arguments(
        __doc__,
        classifier={"help": "manifest of the classifier"},
        corpus={"help": "manifest of the tokenised posts"},
        batch_size={"type": int},
        device={"type": str},
        threads={"type": int},
        output={"help": "folder that gets layer_{layer}/manifest.json"},
    )
    torch.set_num_threads(arguments.threads)
    settings = arguments.settings
    layers = settings["layers"]
    activations = PostActivationSettings.model_validate(settings["activations"])
    manifest = CheckpointManifest.read(arguments.classifier)
    corpus = TokenisedCorpus.read(arguments.corpus)
    check_tokenizer(manifest, corpus, arguments.classifier)
    anatomy = load_model(
        manifest.location, dtype=settings["dtype"], device=arguments.device, head="classifier"
    ).anatomy
    described_as = f"classifier {manifest.model} {manifest.checkpoint}"
    check_layers(anatomy, layers, described_as)
    cached = CachedModel(manifest, anatomy, corpus)
    descriptions = {
        layer: cached.describe(layer, dtype=activations.dtype, window=activations.window)
        for layer in layers
    }
    provenances = provenances_of_layers(arguments, manifest, anatomy.device.type)
    tokens = {split: tokens_of(corpus, split, activations.positions) for split in SPLITS}
    with CacheWriter(arguments.output, descriptions, provenances) as writer:
        require_room(arguments.output, bytes_to_write(writer, tokens, descriptions.values()))
        for split in SPLITS:
            windows = residual_windows(
                anatomy,
                corpus,
                split,
                layers,
                window=activations.window,
                seed=settings["seed"],
                batch_size=arguments.batch_size,
                dtype=activations.dtype,
                not_finite=activations.not_finite,
                positions=activations.positions,
                section="robustness",
                described_as=described_as,
                skip=writer.finished(split),
            )
            write_windows(writer, split, windows, layers, tokens[split])
        report(writer.finish())


def provenances_of_layers(
    arguments: Namespace, manifest: CheckpointManifest, device: str
) -> dict[int, Provenance]:
    """Return what the cache of each layer is made from.

    Which other layers are extracted is left out, so that adding one changes no other's cache.
    """
    settings = arguments.settings
    provenance = provenance_of(
        arguments,
        "activations",
        {"classifier": arguments.classifier, "corpus": arguments.corpus},
        model=manifest.model,
        checkpoint=manifest.checkpoint,
        revision=manifest.commit,
        seed=settings["seed"],
        dtype=settings["dtype"],
        device=device,
    )
    of_a_layer = {key: value for key, value in settings.items() if key != "layers"}
    return {
        layer: replace(provenance, settings=of_a_layer, layer=layer) for layer in settings["layers"]
    }


def report(caches: list[ActivationCache]) -> None:
    """Print what was written, for the log."""
    cache = caches[0]
    counts = ", ".join(f"{split.rows} {name}" for name, split in cache.splits.items())
    print(f"{len(caches)} layers, tokens of each: {counts}; {cache.dropped_rows} dropped")


if __name__ == "__main__":
    run_program(main)
