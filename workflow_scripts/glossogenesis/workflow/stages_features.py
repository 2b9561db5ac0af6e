"""What the stages of the features study cost before they run; see `costs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from glossogenesis.config.models import DTYPE_BYTES
from glossogenesis.config.sae import SaeTraining
from glossogenesis.study.loading import injection_model
from glossogenesis.study.study import Study
from glossogenesis.workflow.costs import (
    PROGRAM_MB,
    Cost,
    depth_and_width,
    model_bytes,
    parameters_of,
)

LIGHT_PROGRAM_MB = 800
"""Memory of Python with torch alone."""

BYTES_OF_IDS = 22
"""Five 32-bit and two 8-bit ids beside every stored activation."""

TOKENS_A_SECOND = 3e5
"""Tokens that a corpus is tokenised at."""

SHARE_OF_FIRED = 0.05
"""Latents that fire for a token of an autoencoder without k, at a guess."""


Split = Literal["train", "held_out"]

BOTH_SPLITS: tuple[Split, ...] = get_args(Split)


def corpus_tokens(study: Study, *splits: Split) -> int:
    """Return the tokens of the features study's corpus in some splits, in both by default."""
    corpus = study.settings.corpora[study.features.corpus]
    return sum(
        corpus.tokens_of(split, code)
        for split in splits or BOTH_SPLITS
        for code in corpus.text.languages
    )


def corpus_cost(study: Study, tokenizer: str) -> Cost:
    """Return what tokenising a corpus takes: 14 bytes a token."""
    tokens = corpus_tokens(study)
    # A cost counts operations; tokenising is counted by its time.
    seconds = tokens / TOKENS_A_SECOND
    return Cost(seconds * 8e10, PROGRAM_MB + 1500, 15 * tokens, 0)


def stored_tokens(study: Study) -> int:
    """Return the tokens whose activations are written to disk."""
    is_streamed = study.features.activations.mode == "stream"
    return corpus_tokens(study, *(("held_out",) if is_streamed else BOTH_SPLITS))


def activation_bytes(study: Study, model: str) -> int:
    """Return the bytes of all caches of one checkpoint."""
    _, width = depth_and_width(study, model)
    number_bytes = DTYPE_BYTES[study.features.activations.dtype]
    a_token = width * number_bytes + BYTES_OF_IDS
    return int(stored_tokens(study) * len(study.layers_of(model)) * a_token)


def activations_cost(study: Study, model: str) -> Cost:
    """Return what one pass of the language model over the corpus takes, with its caches."""
    weights = model_bytes(study, model)
    return Cost(
        2 * parameters_of(study, model) * stored_tokens(study),
        PROGRAM_MB + int((2.2 * weights + _window_bytes(study, model)) / 1e6),
        activation_bytes(study, model),
        study.settings.models[model].gpus,
        weights,
    )


def _window_bytes(study: Study, model: str, layers: int | None = None) -> float:
    """Return the memory of a window that is filled while another is written, and of a batch."""
    _, width = depth_and_width(study, model)
    features = study.features
    number_bytes = DTYPE_BYTES[features.activations.dtype]
    of_layer = features.activations.window * (width * number_bytes + BYTES_OF_IDS)
    settings = study.settings.models[model]
    tokens = settings.batch_size * study.settings.corpora[features.corpus].context
    batch = tokens * width * 12 * DTYPE_BYTES[settings.dtype]
    return 2 * (layers or len(study.layers_of(model))) * of_layer + batch


def training_cost(study: Study, model: str, sae: str, layers: int) -> Cost:
    """Return what training takes: layer by layer from a cache, or together beside the model."""
    if study.features.activations.mode == "stream":
        return _streaming_cost(study, model, sae, layers)
    one = _layer_cost(study, model, sae)
    return replace(one, operations=layers * one.operations, disk_bytes=layers * one.disk_bytes)


def _layer_cost(study: Study, model: str, sae: str) -> Cost:
    """Return what training one autoencoder takes, all its learning rates."""
    settings = _training_of(study, sae)
    _, width = depth_and_width(study, model)
    latents = settings.latents_of(int(width))
    steps = corpus_tokens(study, "train") * settings.epochs
    # A step costs its encoder's product twice over; the held-out loss costs it once.
    products = 2 * steps + corpus_tokens(study, "held_out")
    state = _state_bytes(study, model, settings)
    shard = study.features.activations.window * (2 * width + BYTES_OF_IDS)
    return Cost(
        2 * latents * width * products * len(settings.learning_rates),
        LIGHT_PROGRAM_MB + int((state + _step_bytes(study, model, settings) + 3 * shard) / 1e6),
        int(8 * latents * width),
        study.settings.models[model].gpus,
    )


def _state_bytes(study: Study, model: str, settings: SaeTraining) -> float:
    """Return the memory of one layer's weights and moments, at all learning rates."""
    _, width = depth_and_width(study, model)
    return 3 * 4 * 2 * settings.latents_of(int(width)) * width * len(settings.learning_rates)


def _step_bytes(study: Study, model: str, settings: SaeTraining) -> float:
    """Return the memory of gradients and of a batch, which trainings that take turns share."""
    _, width = depth_and_width(study, model)
    latents = settings.latents_of(int(width))
    batch = 4 * settings.batch_size * (6 * width + 0.25 * latents)
    if settings.architecture == "relu":
        batch += 12 * settings.batch_size * latents
    return 4 * 2 * latents * width + batch


def _training_of(study: Study, sae: str) -> SaeTraining:
    return study.features.saes[study.features.trained[sae][0]]


def _streaming_cost(study: Study, model: str, sae: str, layers: int) -> Cost:
    """Return what training a block of layers beside the language model takes."""
    one = _layer_cost(study, model, sae)
    settings = _training_of(study, sae)
    weights = model_bytes(study, model)
    passes = 2 * parameters_of(study, model) * corpus_tokens(study, "train") * settings.epochs
    trained = layers * _state_bytes(study, model, settings) + _step_bytes(study, model, settings)
    memory = 2.2 * weights + _window_bytes(study, model, layers) + trained
    return Cost(
        passes + layers * one.operations,
        PROGRAM_MB + int(memory / 1e6),
        layers * one.disk_bytes,
        one.gpus,
        weights,
    )


def quality_cost(study: Study, model: str, sae: str, layers: int) -> Cost:
    """Return what a pass of an autoencoder over the held-out activations takes, at each layer."""
    settings = _training_of(study, sae)
    _, width = depth_and_width(study, model)
    latents = settings.latents_of(int(width))
    tokens = corpus_tokens(study, "held_out")
    memory = 16 * latents * width + 3 * study.features.activations.window * 2 * width
    # Encoding, and the similarity of every decoder vector with every other.
    operations = 2 * latents * width * (tokens + latents)
    gpus = study.settings.models[model].gpus
    memory_mb = LIGHT_PROGRAM_MB + 500 + int(memory / 1e6)
    return Cost(layers * operations, memory_mb, layers * 10**5, gpus)


def collection_cost(study: Study, model: str, sae: str, layers: int) -> Cost:
    """Return what feature statistics take: a pass, and a layer's latents on disk meanwhile."""
    passes = quality_cost(study, model, sae, layers)
    settings = _training_of(study, sae)
    _, width = depth_and_width(study, model)
    latents = settings.latents_of(int(width))
    fired = settings.k or SHARE_OF_FIRED * latents
    features = study.features
    kept = max(features.language.examples, *features.sensitivity.examples, 0)
    return Cost(
        passes.operations,
        passes.memory_mb + 1000 + int(120 * latents * kept / 1e6),
        layers * 60 * latents * kept,
        passes.gpus,
        scratch_bytes=int(4 * corpus_tokens(study, "held_out") * fired),
    )


def matching_cost(study: Study, model: str, sae: str, layers: int) -> Cost:
    """Return what matching two dictionaries takes: all cosines, a chunk at a time."""
    _, width = depth_and_width(study, model)
    latents = _training_of(study, sae).latents_of(int(width))
    # Finding the nearest, and the assignment, take as long as 700 more operations a pair of latents
    # that are linked, and 1,800 a pair of unrelated ones (`benchmarks/matching.py`).
    operations = layers * latents**2 * (2 * width + 1500)
    memory_mb = LIGHT_PROGRAM_MB + 500 + int(24 * latents * width / 1e6)
    return Cost(operations, memory_mb, layers * 10**6, 0)


def seeds_cost(study: Study, model: str, sae: str, layers: int) -> Cost:
    """Return what comparing the dictionaries of all seeds with the first one's takes."""
    name, _ = study.features.trained[sae]
    others = study.features.saes[name].seeds[1:]
    return matching_cost(study, model, sae, layers * max(1, len(others)))


def recovery_cost(study: Study, model: str, sae: str) -> Cost:
    """Return what the spliced runs of all layers take: clean, spliced and two ablations."""
    features = study.features
    corpus = study.settings.corpora[features.corpus]
    tokens = features.recovery.contexts * corpus.context * len(corpus.text.languages)
    passes = 1 + 3 * len(study.layers_of(model))
    return _with_model(study, model, sae, tokens * passes)


def injection_cost(study: Study) -> Cost:
    """Return what the injections into one checkpoint take, with both models in memory."""
    features = study.features
    injection = features.injection
    assert injection is not None
    corpus = study.settings.corpora[features.corpus]
    groups = len(corpus.text.languages) + 2  # and the bilingual ones, and symbols
    runs = 1 + len(injection.layers) * len(injection.alpha) * groups * (1 + 2 * injection.draws)
    tokens = injection.contexts * corpus.context * len(corpus.text.languages)
    model = injection_model(study)
    # Translation takes about as much again.
    one = _with_model(study, model, next(iter(features.saes)), 2 * tokens * (runs + 1))
    return Cost(one.operations, 2 * one.memory_mb, one.disk_bytes, one.gpus, 2 * one.read_bytes)


def _with_model(study: Study, model: str, sae: str, tokens: float) -> Cost:
    """Return the cost of a job that runs a language model with an autoencoder beside it."""
    settings = study.settings.models[model]
    weights = model_bytes(study, model)
    _, width = depth_and_width(study, model)
    latents = _training_of(study, sae).latents_of(int(width))
    context = study.settings.corpora[study.features.corpus].context
    logits = settings.batch_size * context * 50_000 * 4
    memory = 2.2 * weights + 16 * latents * width + logits + _window_bytes(study, model, 1)
    operations = 2 * (parameters_of(study, model) + latents * width) * tokens
    return Cost(operations, PROGRAM_MB + int(memory / 1e6), 10**6, settings.gpus, weights)


def embeddings_cost(study: Study, model: str) -> Cost:
    """Return what reading the vectors of tokens takes."""
    weights = model_bytes(study, model)
    return Cost(0.0, PROGRAM_MB + int(2.2 * weights / 1e6), weights // 4, 0, weights)


def cache_bytes(study: Study, checkpoints: Mapping[str, int]) -> int:
    """Return the bytes of caches for a number of checkpoints of each model."""
    return sum(activation_bytes(study, model) * number for model, number in checkpoints.items())
