"""Measure how the features of a classifier's autoencoder relate to labels, on held-out posts.

How strongly each feature distinguishes each label, how label-specific features are, which tokens
and pieces of text the top features of a label fire on, and how sparse and faithful the code is.
Several layers are done one after the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from glossogenesis.corpora.posts import Posts, read_posts
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.models.device import resolve_device
from glossogenesis.robustness.label_tables import collect_label_features
from glossogenesis.sae.files import check_origin, read_sae
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.tables import write_table
from glossogenesis.study.robustness import LabelFeatureSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the four tables of each autoencoder."""
    arguments = program_arguments(
        __doc__,
        activations={"nargs": "+", "help": "manifests of the layers' activations"},
        saes={"nargs": "+", "help": "their sae_weights.safetensors, with cfg.json beside them"},
        corpus={"help": "manifest of the tokenised posts"},
        posts={"help": "posts.parquet"},
        device={"type": str},
        output={
            "nargs": "+",
            "help": "their labels.parquet; features, cues and posts are written beside them",
        },
    )
    corpus = TokenisedCorpus.read(arguments.corpus)
    posts = read_posts(arguments.posts)
    layers = zip(arguments.activations, arguments.saes, arguments.output, strict=True)
    for activations, sae, output in layers:
        collect(arguments, activations, sae, output, corpus, posts)


def collect(
    arguments: argparse.Namespace,
    activations: Path,
    sae: Path,
    output: Path,
    corpus: TokenisedCorpus,
    posts: Posts,
) -> None:
    """Write the four tables of one layer."""
    settings = arguments.settings
    cache = ActivationCache.open(activations)
    check_origin(sae, cache.model, cache.checkpoint, cache.layer)
    device = resolve_device(arguments.device)
    found = collect_label_features(
        read_sae(sae, d_model=cache.d_model).to(device),
        cache,
        corpus,
        posts,
        LabelFeatureSettings.model_validate(settings["label_features"]),
        settings["seed"],
    )
    inputs = {"corpus": arguments.corpus, "posts": arguments.posts}
    provenance = provenance_of(
        arguments,
        "label_features",
        inputs | {"activations": activations, "sae": sae},
        **cache.origin,
        seed=settings["seed"],
        dtype=cache.dtype,
        device=device,
        facts=found.facts,
    )
    folder = output.parent
    write_table(folder / "features.parquet", found.features, provenance)
    write_table(folder / "cues.parquet", found.cues, provenance)
    write_table(folder / "posts.parquet", found.posts, provenance)
    write_table(output, found.labels, provenance)


if __name__ == "__main__":
    run_program(main)
