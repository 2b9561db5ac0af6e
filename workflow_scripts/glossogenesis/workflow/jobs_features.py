"""The stages of the features study: the slice of a study that each computes with, its costs.

As in `jobs_concepts`: one plain dict a stage, with what changes its results and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from glossogenesis.study.features import InjectionSettings, ParallelText, SaeTraining
from glossogenesis.study.inputs import DTYPE_BYTES, CorpusDemo, CorpusFiles
from glossogenesis.study.loading import injection_model
from glossogenesis.study.study import Study
from glossogenesis.workflow.costs import (
    PROGRAM_MB,
    Cost,
    depth_and_width,
    model_bytes,
    parameters_of,
)
from glossogenesis.workflow.jobs_concepts import Settings, endonyms, labels_of, lexicon_settings

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


def corpus_settings(study: Study, corpus: str, tokenizer: str) -> Settings:
    """What a tokenised corpus depends on beside the tokenizer's checkpoint."""
    settings = study.settings.corpora[corpus]
    written = settings.model_dump(mode="json")
    if isinstance(settings.text, CorpusFiles):
        written["text"]["files"] = {
            code: [study.path(path) for path in paths]
            for code, paths in settings.text.files.items()
        }
    codes = settings.text.languages
    slice_: Settings = {
        "name": corpus,
        "corpus": written,
        "languages": {code: study.settings.languages[code].script for code in codes},
        "add_special_tokens": study.settings.models[tokenizer].add_special_tokens,
        "endonyms": {},
        "lexicon": None,
    }
    if isinstance(settings.text, CorpusDemo):
        slice_["endonyms"] = {code: endonyms(study)[code] for code in codes}
        slice_["lexicon"] = lexicon_settings(study)
        if study.lexicon.format == "tsv":
            # As for pretraining: a language that the text is not in makes no difference to it.
            slice_["lexicon"]["languages"] = list(codes)
    return slice_


def activations_settings(study: Study, model: str) -> Settings:
    """What an activation cache depends on beside the checkpoint and the corpus."""
    features = study.features
    return {
        "layers": list(study.layers_of(model)),
        "dtype": study.settings.models[model].dtype,
        "activations": features.activations.model_dump(mode="json"),
        "corpus": features.corpus,
        "seed": features.seed,
        "on_diverged": features.on_diverged,
    }


def training_settings(study: Study, model: str, sae: str) -> Settings:
    """What training depends on beside its inputs; `sae` is a name in paths.

    In mode `stream` it is also what extraction depends on, but for other blocks of layers.
    """
    name, seed = study.features.trained[sae]
    slice_ = {
        "sae": study.features.saes[name].training.model_dump(mode="json"),
        "seed": seed,
        "on_diverged": study.features.on_diverged,
    }
    if study.features.activations.mode == "cache":
        return slice_
    extraction = activations_settings(study, model)
    del extraction["layers"]
    return extraction | slice_


def recovery_settings(study: Study, model: str, sae: str) -> Settings:
    """What the cross-entropy of the spliced model depends on."""
    recovery = study.features.recovery
    return {
        "layers": list(study.layers_of(model)),
        "dtype": study.settings.models[model].dtype,
        "sae": sae,
        "contexts": recovery.contexts,
        "ablation": recovery.ablation,
        "resamples": study.features.resamples,
        "seed": study.features.seed,
        "on_diverged": study.features.on_diverged,
    }


def embeddings_settings(study: Study, model: str) -> Settings:
    """What the vectors of tokens depend on beside the checkpoint."""
    return {"dtype": study.settings.models[model].dtype}


def collection_settings(study: Study) -> Settings:
    """What feature statistics depend on beside activations and the autoencoder."""
    features = study.features
    monosemanticity = features.monosemanticity.model_dump(mode="json")
    if (vectors := embedding_file(study)) is not None:
        monosemanticity["embedding"] = vectors
    codes = study.settings.corpora[features.corpus].text.languages
    return {
        "language": features.language.model_dump(mode="json"),
        "monosemanticity": monosemanticity,
        "sensitivity": features.sensitivity.model_dump(mode="json"),
        "scripts": {code: study.settings.languages[code].script for code in codes},
        "seed": features.seed,
    }


def embedding_file(study: Study) -> str | None:
    """Return the user's own file of token vectors, where the study names one."""
    written = study.features.monosemanticity.embedding
    return None if written in ("input", "unembedding") else study.path(written)


def matching_settings(study: Study) -> Settings:
    """What matches between neighbouring checkpoints depend on."""
    return {"minimum_cosine": study.features.tracking.minimum_cosine}


def injection_settings(study: Study) -> Settings:
    """What injections into one checkpoint depend on."""
    features = study.features
    injection = injection_of(study)
    keys = {
        "layers", "alpha", "scale", "positions", "mode", "minimum_monosemanticity", "draws",
        "contexts", "comet",
    }  # fmt: skip
    return {
        **injection.model_dump(mode="json", include=keys),
        "dtype": study.settings.models[injection_model(study)].dtype,
        "languages": list(study.settings.corpora[features.corpus].text.languages),
        "translation": _translation_settings(study, injection),
        "lexicon": lexicon_settings(study) if injection.translation == "prompts" else None,
        "add_special_tokens": study.settings.models[injection_model(study)].add_special_tokens,
        "spaced": {code: language.spaced for code, language in study.settings.languages.items()},
        "resamples": features.resamples,
        "seed": features.seed,
        "on_diverged": features.on_diverged,
    }


def injection_of(study: Study) -> InjectionSettings:
    """Return the injection section of a study that has one."""
    injection = study.features.injection
    assert injection is not None, "injection rules exist only where the section does"
    return injection


def _translation_settings(study: Study, injection: InjectionSettings) -> Settings | None:
    """What is translated under injection, with resolved files."""
    if injection.translation is None:
        return None
    if isinstance(injection.translation, ParallelText):
        written = injection.translation.model_dump(mode="json")
        written["files"] = {
            pair: [study.path(path) for path in files]
            for pair, files in injection.translation.files.items()
        }
        return {"kind": "parallel", **written, "endonyms": endonyms(study)}
    pairs = injection.pairs or study.concepts.target_pairs
    return {
        "kind": "prompts",
        "pairs": [list(pair) for pair in pairs],
        "max_new_tokens": study.concepts.max_new_tokens,
    }


def parallel_files(study: Study) -> list[tuple[str, str]]:
    """Return every file of parallel text that injections translate, with the pair it is of."""
    injection = study.features.injection
    text = injection.translation if injection is not None and injection.enabled else None
    by_pair = text.files if isinstance(text, ParallelText) else {}
    return [(pair, study.path(path)) for pair, paths in by_pair.items() for path in paths]


def feature_table_settings(study: Study) -> Settings:
    """What the tables of the features study depend on beside sheet and statistics."""
    features = study.features
    models = study.models_of("features")
    return {
        "checkpoints": {model: list(study.feature_checkpoints(model)) for model in models},
        "layers": {model: list(study.layers_of(model)) for model in models},
        "saes": list(features.saes),
        "extra_seeds": {
            name: [other for other, (of, _) in features.trained.items() if of == name != other]
            for name in features.saes
        },
        "depths": {model: study.depth_of(model) for model in models},
        "grid": features.grid,
        "rows": {model: len(study.checkpoints_of(model)) for model in models},
        "languages": list(study.settings.corpora[features.corpus].text.languages),
        "recovery": features.recovery.enabled,
        "resamples": features.resamples,
        "seed": features.seed,
    }


def tracking_table_settings(study: Study) -> Settings:
    """What the table of tracked features depends on."""
    keys = ("checkpoints", "layers", "saes", "languages", "resamples", "seed")
    settings = feature_table_settings(study)
    return {key: settings[key] for key in keys}


def injection_table_settings(study: Study) -> Settings:
    """What the table of injections depends on."""
    model = injection_model(study)
    return {
        "model": model,
        "sae": injection_sae(study),
        "source": injection_source(study),
        "targets": list(injection_targets(study)),
    }


def injection_sae(study: Study) -> str:
    """Return the kind of autoencoder whose features are injected."""
    return injection_of(study).sae or next(iter(study.features.saes))


def injection_source(study: Study) -> str:
    """Return the checkpoint whose features are injected."""
    names = study.feature_checkpoints(injection_model(study))
    return injection_of(study).source or names[-1]


def injection_targets(study: Study) -> tuple[str, ...]:
    """Return the checkpoints that features are injected into."""
    source = injection_source(study)
    names = study.feature_checkpoints(injection_model(study))
    return injection_of(study).targets or tuple(name for name in names if name != source)


def feature_figure_settings(study: Study) -> Settings:
    """What figures depend on beside the tables."""
    features = study.features
    return {
        "models": labels_of(study, study.models_of("features")),
        "sae": next(iter(features.saes)),
        "languages": list(study.settings.corpora[features.corpus].text.languages),
    }


def corpus_tokens(study: Study, *splits: Split) -> int:
    """Return the tokens of the features study's corpus in some splits, in both by default."""
    corpus = study.settings.corpora[study.features.corpus]
    return sum(
        corpus.tokens_of(split, code)
        for split in splits or BOTH_SPLITS
        for code in corpus.text.languages
    )


def corpus_cost(study: Study) -> Cost:
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
