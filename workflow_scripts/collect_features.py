"""Describe the features of sparse autoencoders from held-out activations, layer by layer.

How often, how strongly and on which tokens each fires, its examples, the language it belongs to and
its monosemanticity; and what other values of the ambiguous choices would have made of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.features.collection import (
    FeatureRules,
    Features,
    collect_features,
    write_examples,
)
from glossogenesis.features.schemas import (
    EXAMPLES_SCHEMA,
    sensitivity_schema,
    statistics_schema,
)
from glossogenesis.models.device import resolve_device
from glossogenesis.sae.files import read_sae
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.tables import write_table
from glossogenesis.storage.tensors import read_tensors
from glossogenesis.study.features import LanguageRule, MonosemanticityRule, Sensitivity
from glossogenesis.workflow.left_out import left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """Files of one layer: what is read, and what is written."""

    activations: Path
    sae: Path
    statistics: Path
    examples: Path
    sensitivity: Path


def main() -> None:
    """Write the statistics, examples and sensitivity of each layer's features."""
    arguments = program_arguments(
        __doc__,
        activations={"nargs": "+", "help": "manifests of the layers' activations"},
        corpus={"help": "manifest of the tokenised corpus"},
        saes={"nargs": "+", "help": "their sae_weights.safetensors"},
        embeddings={"help": "vectors of tokens, written by extract_embeddings.py"},
        own_embedding={
            "nargs": "?",
            "default": None,
            "help": "file named in `monosemanticity.embedding`",
        },
        device={"type": str},
        output={"nargs": "+", "help": "their statistics.parquet"},
        examples={"nargs": "+"},
        sensitivity_tables={"nargs": "+"},
    )
    settings = arguments.settings
    rules = FeatureRules(
        language=LanguageRule.model_validate(settings["language"]),
        monosemanticity=MonosemanticityRule.model_validate(settings["monosemanticity"]),
        sensitivity=Sensitivity.model_validate(settings["sensitivity"]),
        scripts=settings["scripts"],
        seed=settings["seed"],
    )
    corpus = TokenisedCorpus.read(arguments.corpus)
    embedding_of = embedding_reader(arguments.embeddings, arguments.own_embedding)
    for files in zip(
        arguments.activations,
        arguments.saes,
        arguments.output,
        arguments.examples,
        arguments.sensitivity_tables,
        strict=True,
    ):
        collect(arguments, Layer(*files), corpus, rules, embedding_of)


def collect(
    arguments: argparse.Namespace,
    layer: Layer,
    corpus: TokenisedCorpus,
    rules: FeatureRules,
    embedding_of: Callable[[str], Tensor],
) -> None:
    """Write the tables of one layer."""
    cache = ActivationCache.open(layer.activations)
    inputs = {"activations": layer.activations, "sae": layer.sae}
    if empty := left_out(arguments, "features", inputs):
        write_table(layer.examples, EXAMPLES_SCHEMA.to_frame(), empty)
        write_table(layer.sensitivity, sensitivity_schema(cache.languages).to_frame(), empty)
        write_table(layer.statistics, statistics_schema(cache.languages).to_frame(), empty)
        return
    device = resolve_device(arguments.device)
    features = collect_features(
        read_sae(layer.sae, d_model=cache.d_model).to(device),
        cache,
        corpus,
        rules,
        embedding_of,
        scratch=layer.statistics.parent,
    )
    inputs |= {"corpus": arguments.corpus, "embeddings": arguments.embeddings}
    if arguments.own_embedding is not None:
        inputs["own_embedding"] = arguments.own_embedding
    provenance = provenance_of(
        arguments,
        "features",
        inputs,
        **cache.origin,
        seed=arguments.settings["seed"],
        dtype=cache.dtype,
        device=device,
        facts=facts_of(features, cache),
    )
    write_examples(layer.examples, features.example_parts(), provenance)
    write_table(layer.sensitivity, features.sensitivity, provenance)
    write_table(layer.statistics, features.statistics, provenance)


def embedding_reader(embeddings: Path, own_embedding: Path | None) -> Callable[[str], Tensor]:
    """Return a function from the name of an embedding to its vectors [token, dimension], read once.

    The names are `input` and `unembedding`, and else the user's own file.
    """

    @lru_cache
    def read(name: str) -> Tensor:
        if name in ("input", "unembedding"):
            return read_tensors(embeddings, [name])[name]
        if own_embedding is None:
            raise StudyError(f"`monosemanticity.embedding` is {name}; give --own-embedding too")
        held = read_tensors(own_embedding)
        if "embedding" not in held or held["embedding"].ndim != 2:
            raise StudyError(
                f"{own_embedding}: holds no tensor `embedding` [token, dimension] (there: "
                f"{', '.join(held) or 'none'}); save the vectors under that name, by token id"
            )
        return held["embedding"]

    return read


def facts_of(features: Features, cache: ActivationCache) -> dict[str, object]:
    """What the tables' provenance says beside their settings."""
    tokens = features.firings.counts.tokens.tolist()
    return {
        "activations": "in the space that the autoencoder sees",
        "languages": list(cache.languages),
        "share_denominator": "all examples with letters, also those in no language",
        "tokens": sum(tokens),
        "tokens_by_language": dict(zip(cache.languages, tokens, strict=True)),
    }


if __name__ == "__main__":
    run_program(main)
