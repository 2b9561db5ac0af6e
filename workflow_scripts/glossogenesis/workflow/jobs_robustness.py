"""The stages of the robustness study: the slice that each computes with, and its costs.

As in `jobs_concepts`: one plain dict a stage, with what changes its results and nothing else.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from glossogenesis.study.features import SaeTraining
from glossogenesis.study.inputs import DTYPE_BYTES
from glossogenesis.study.robustness import PostsDemo, VariantSettings
from glossogenesis.study.study import Study
from glossogenesis.workflow.costs import (
    PROGRAM_MB,
    Cost,
    depth_and_width,
    model_bytes,
    parameters_of,
)
from glossogenesis.workflow.jobs_concepts import Settings, labels_of
from glossogenesis.workflow.jobs_features import BYTES_OF_IDS, LIGHT_PROGRAM_MB

BYTES_A_TOKEN = 3
"""Bytes of text in a token."""

BYTES_A_POST = 600
"""Bytes of a post; Japanese posts of forums have 500 to 900."""

BYTES_OF_A_DEMO_POST = 120

BYTES_OF_ABSENT_FILES = 10_000_000
"""Taken for the user's posts where their files are not in place yet."""

LABELS_OF_FILES = 107

SHARE_OF_CHANGED_POSTS = 0.5
"""Posts in which some feature of a knockout fires; the others are not run again."""


def posts_settings(study: Study) -> Settings:
    """What the posts depend on."""
    written = study.robustness.posts.model_dump(mode="json")
    if written["posts_per_label"] is not None:
        del written["held_out_share"]
    text = written["text"]
    for key in ("files", "held_out_files"):
        if key in text:
            text[key] = [study.path(path) for path in text[key]]
    for key in ("communities", "spellings"):
        if key in text:
            text[key] = study.path(text[key])
    return {"posts": written}


def tokenised_posts_settings(study: Study, tokenizer: str) -> Settings:
    """What tokenised posts depend on beside the posts and the tokenizer's checkpoint."""
    return {
        "max_tokens": study.robustness.classifier.max_tokens,
        "add_special_tokens": study.settings.models[tokenizer].add_special_tokens,
        "language": study.robustness.posts.language,
    }


def baseline_settings(study: Study) -> Settings:
    """What the baseline depends on beside the posts."""
    robustness = study.robustness
    return {"baseline": robustness.baseline.model_dump(mode="json"), "seed": robustness.seed}


def classifier_settings(study: Study, model: str, seed: str) -> Settings:
    """What fine-tuning depends on beside the checkpoint and the tokenised posts."""
    # How long a post may be has shaped the tokenised posts already; other seeds are other jobs.
    written = study.robustness.classifier.model_dump(mode="json", exclude={"max_tokens", "seeds"})
    return {
        "classifier": written,
        "seed": int(seed),
        "dtype": study.settings.models[model].dtype,
    }


def classification_settings(study: Study, model: str) -> Settings:
    """What predictions depend on beside the classifier and the tokenised posts."""
    return {"dtype": study.settings.models[model].dtype}


def pair_settings(study: Study, model: str) -> Settings:
    """What pairs depend on beside predictions and states of all models."""
    robustness = study.robustness
    return {
        "pairs": robustness.pairs.model_dump(mode="json"),
        "seed": robustness.seed,
        "model": model,
        "models": list(robustness.models),
    }


def component_settings(study: Study, model: str) -> Settings:
    """What effects of components depend on beside the classifier and the pairs."""
    return {
        "components": study.robustness.components.model_dump(mode="json"),
        "dtype": study.settings.models[model].dtype,
    }


def circuit_settings(study: Study, model: str) -> Settings:
    """What the test of a circuit depends on beside the classifier and the effects."""
    robustness = study.robustness
    return {
        "circuit": robustness.circuit.model_dump(mode="json"),
        "outputs": robustness.components.outputs,
        "dtype": study.settings.models[model].dtype,
        "resamples": robustness.resamples,
        "seed": robustness.seed,
    }


def post_activations_settings(study: Study, model: str) -> Settings:
    """What a classifier's activation cache depends on beside classifier and tokenised posts."""
    return {
        "layers": list(study.layers_of(model)),
        "dtype": study.settings.models[model].dtype,
        "activations": study.robustness.activations.model_dump(mode="json"),
        "seed": study.robustness.seed,
    }


def post_training_settings(study: Study, sae: str) -> Settings:
    """What training an autoencoder of a classifier depends on beside the activations."""
    name, seed = study.robustness.trained[sae]
    written = study.robustness.saes[name].training.model_dump(mode="json")
    return {"sae": written, "seed": seed, "on_diverged": "stop"}


def label_feature_settings(study: Study) -> Settings:
    """What features of labels depend on beside activations, autoencoder and posts."""
    robustness = study.robustness
    return {
        "label_features": robustness.label_features.model_dump(mode="json"),
        "seed": robustness.seed,
    }


def knockout_settings(study: Study, model: str, sae: str) -> Settings:
    """What knockouts depend on beside classifier, posts, autoencoders and their features."""
    robustness = study.robustness
    return {
        "layers": list(study.layers_of(model)),
        "knockout": robustness.knockout.model_dump(mode="json"),
        "pooling": robustness.label_features.pooling,
        "top": robustness.label_features.top,
        "sae": sae,
        "dtype": study.settings.models[model].dtype,
        "resamples": robustness.resamples,
        "seed": robustness.seed,
    }


def variant_settings(study: Study, model: str, sae: str) -> Settings:
    """What the survival of spelling variants depends on beside classifier and autoencoders."""
    robustness = study.robustness
    variants = variants_of(study)
    return {
        "layers": list(study.layers_of(model)),
        "variants": variants.model_dump(mode="json", exclude={"file"}),
        "add_special_tokens": study.settings.models[model].add_special_tokens,
        "sae": sae,
        "dtype": study.settings.models[model].dtype,
        "seed": robustness.seed,
    }


def variants_of(study: Study) -> VariantSettings:
    """Return the section of spelling variants of a study that has one."""
    variants = study.robustness.variants
    assert variants is not None, "rules of spelling variants exist only where the section does"
    return variants


def robustness_table_settings(study: Study) -> Settings:
    """What the tables of the robustness study depend on beside the artifacts of each model."""
    robustness = study.robustness
    labels = labels_of(study, robustness.models)
    return {
        "models": {
            model: {
                "checkpoint": checkpoint,
                "label": labels[model],
                "layers": list(study.layers_of(model)),
                "tokenizer": study.tokenizer_of(model),
            }
            for model, checkpoint in robustness.models.items()
        },
        "seeds": list(robustness.classifier.seeds),
        "saes": {
            path: {"sae": name, "sae_seed": seed}
            for path, (name, seed) in robustness.trained.items()
        },
        "thresholds": list(robustness.circuit.thresholds),
        "variants": robustness.variants is not None,
        "resamples": robustness.resamples,
        "seed": robustness.seed,
    }


def robustness_figure_settings(study: Study) -> Settings:
    """What figures depend on beside the tables."""
    robustness = study.robustness
    return {
        "models": labels_of(study, robustness.models),
        "sae": next(iter(robustness.saes)),
        "threshold": robustness.circuit.thresholds[0],
    }


@cache
def _bytes_of(paths: tuple[str, ...]) -> int:
    sizes = [Path(path).stat().st_size for path in paths if Path(path).is_file()]
    return sum(sizes) or BYTES_OF_ABSENT_FILES


def number_of_labels(study: Study) -> int:
    """Return the labels of posts: those that are drawn, the demo's, or those of Fukasawa 2026."""
    text = study.robustness.posts.text
    if study.robustness.posts.labels is not None:
        return study.robustness.posts.labels
    if not isinstance(text, PostsDemo):
        return LABELS_OF_FILES
    communities = Path(study.path(text.communities))
    rows = communities.read_text("utf-8").splitlines() if communities.is_file() else []
    listed = max(1, len({row.split("\t")[0] for row in rows if not row.startswith("#")}) - 1)
    return min(listed, text.limit or listed)


def number_of_posts(study: Study) -> tuple[float, float]:
    """Return the training and the held-out posts, of the user's files by their sizes."""
    posts = study.robustness.posts
    text, drawn = posts.text, posts.posts_per_label
    if drawn is not None:
        labels = number_of_labels(study)
        return labels * drawn.train, labels * drawn.held_out
    if isinstance(text, PostsDemo):
        labels = number_of_labels(study)
        return labels * text.train_posts, labels * text.held_out_posts
    number = _bytes_of(tuple(study.path(path) for path in text.paths)) / BYTES_A_POST
    return number * (1 - posts.held_out_share), number * posts.held_out_share


def tokens_of_a_post(study: Study) -> float:
    """Return the tokens of a post after it was cut."""
    is_demo = isinstance(study.robustness.posts.text, PostsDemo)
    written = BYTES_OF_A_DEMO_POST if is_demo else BYTES_A_POST
    return min(
        study.robustness.classifier.max_tokens, written / BYTES_A_TOKEN * (2 if is_demo else 1)
    )


def posts_cost(study: Study) -> Cost:
    """Return what reading, cleaning or tokenising posts takes."""
    read = sum(number_of_posts(study)) * BYTES_A_POST
    return Cost(0.0, 2000 + int(10 * read / 1e6), int(6 * read), 0, int(read))


def baseline_cost(study: Study) -> Cost:
    """Return what TF-IDF and a linear support vector machine take: some seconds a megabyte."""
    read = sum(number_of_posts(study)) * BYTES_A_POST
    return Cost(read * 2e6, 2000 + int(60 * read / 1e6), 10**6, 0)


def finetuning_cost(study: Study, model: str) -> Cost:
    """Return what fine-tuning takes: weights, gradients and two moments in float32."""
    train, held_out = number_of_posts(study)
    settings = study.robustness.classifier
    depth, width = depth_and_width(study, model)
    tokens = tokens_of_a_post(study)
    weights = parameters_of(study, model)
    seen = tokens * settings.epochs * (6 * train + 2 * held_out)
    kept = settings.batch_size * tokens * depth * width * 34 * 4
    return Cost(
        weights * seen,
        PROGRAM_MB + int((16 * weights + kept) / 1e6),
        int(4 * weights),
        study.settings.models[model].gpus,
        model_bytes(study, model),
    )


def classification_cost(study: Study, model: str) -> Cost:
    """Return what one pass over the held-out posts takes."""
    _, held_out = number_of_posts(study)
    return _passes(study, model, held_out)


def pairs_cost(study: Study) -> Cost:
    """Return what comparing all held-out posts with each other takes."""
    _, held_out = number_of_posts(study)
    width = max(depth_and_width(study, name)[1] for name in study.robustness.models)
    # What is left of the posts after each pass makes the next one shorter.
    operations = 4 * held_out**2 * width * len(study.robustness.models)
    return Cost(operations, LIGHT_PROGRAM_MB + 1000 + int(24 * held_out * width / 1e6), 10**6, 0)


def components_cost(study: Study, model: str) -> Cost:
    """Return what patching every component of every pair takes.

    On the fast path a pair costs two passes and, for every component, its last position through
    half the layers; in reference mode it costs a pass for every component.
    """
    robustness = study.robustness
    depth, _ = depth_and_width(study, model)
    pairs = robustness.pairs.number * len(robustness.pairs.sets)
    tokens = tokens_of_a_post(study)
    rows = 2 * depth * (tokens if robustness.components.mode == "reference" else 0.5)
    return _passes(study, model, pairs * (2 + rows / tokens))


def circuit_cost(study: Study, model: str) -> Cost:
    """Return what ablating circuits takes, at the last position or, by whole passes, at all."""
    robustness = study.robustness
    circuit = robustness.circuit
    _, held_out = number_of_posts(study)
    circuits = len(robustness.pairs.sets) * len(circuit.thresholds) * (1 + circuit.random_draws)
    rows = 2 * circuits * len(circuit.ablations)
    tokens = tokens_of_a_post(study)
    passes = 1 + rows * ("all" in circuit.positions) + rows / tokens
    return _passes(study, model, held_out * passes + circuit.reference_posts)


def post_activations_cost(study: Study, model: str) -> Cost:
    """Return what one pass over all posts takes, with the caches of every layer."""
    _, width = depth_and_width(study, model)
    activations = study.robustness.activations
    a_row = width * DTYPE_BYTES[activations.dtype] + BYTES_OF_IDS
    layers = len(study.layers_of(model))
    rows = sum(number_of_posts(study))
    stored = rows * (tokens_of_a_post(study) if activations.positions == "all" else 1)
    one = _passes(study, model, rows)
    memory = one.memory_mb + int(2 * min(activations.window, stored) * layers * a_row / 1e6)
    return Cost(one.operations, memory, int(stored * layers * a_row), one.gpus, one.read_bytes)


def post_training_cost(study: Study, model: str, sae: str) -> Cost:
    """Return what training the autoencoders of a classifier's layers takes, one after the other."""
    settings, latents, width = _dictionary(study, model, sae)
    train, held_out = _stored_tokens(study)
    products = 3 * train * settings.epochs + held_out
    state = 4 * 4 * 2 * latents * width * len(settings.learning_rates)
    batch = settings.batch_size * (24 * width + 16 * latents)
    shards = 3 * study.robustness.activations.window * (2 * width + BYTES_OF_IDS)
    layers = len(study.layers_of(model))
    return Cost(
        2 * latents * width * products * len(settings.learning_rates) * layers,
        LIGHT_PROGRAM_MB + int((state + batch + shards) / 1e6),
        int(8 * latents * width) * layers,
        study.settings.models[model].gpus,
    )


def label_features_cost(study: Study, model: str, sae: str) -> Cost:
    """Return what features of labels take: at each layer two passes, and a matrix of posts."""
    _, latents, width = _dictionary(study, model, sae)
    _, held_out = _stored_tokens(study)
    _, posts = number_of_posts(study)
    labels = number_of_labels(study)
    resampled = study.robustness.label_features.resamples * labels * posts * latents
    memory = 16 * latents * width + 24 * labels * latents * 3 + 12 * posts * latents
    layers = len(study.layers_of(model))
    return Cost(
        (4 * latents * width * held_out + resampled * 0.2) * layers,
        LIGHT_PROGRAM_MB + 700 + int(memory / 1e6),
        int(24 * latents * labels) * layers,
        study.settings.models[model].gpus,
    )


def knockout_cost(study: Study, model: str, sae: str) -> Cost:
    """Return what knockouts at all layers take: half a pass on average, for posts that change.

    Every post is run without the top features of every label and as many others, without random
    ones, and without those that fire as often as its own label's.
    """
    knockout = study.robustness.knockout
    _, held_out = number_of_posts(study)
    runs = 2 * number_of_labels(study) + 2 * knockout.draws
    passes = len(study.layers_of(model)) * runs * 0.5 * SHARE_OF_CHANGED_POSTS
    return _with_dictionary(study, model, sae, held_out * (1 + passes))


def variants_cost(study: Study, model: str, sae: str) -> Cost:
    """Return what encoding some hundred short sentences takes."""
    return _with_dictionary(study, model, sae, 500)


def _dictionary(study: Study, model: str, sae: str) -> tuple[SaeTraining, int, float]:
    """Return an autoencoder's settings, its size and its width."""
    settings = study.robustness.saes[study.robustness.trained[sae][0]].training
    _, width = depth_and_width(study, model)
    return settings, settings.latents_of(int(width)), width


def _stored_tokens(study: Study) -> tuple[float, float]:
    """Return the stored training and held-out tokens."""
    train, held_out = number_of_posts(study)
    of_a_post = tokens_of_a_post(study) if study.robustness.activations.positions == "all" else 1
    return train * of_a_post, held_out * of_a_post


def _with_dictionary(study: Study, model: str, sae: str, posts: float) -> Cost:
    _, latents, width = _dictionary(study, model, sae)
    one = _passes(study, model, posts)
    memory = one.memory_mb + int(8 * latents * width * len(study.layers_of(model)) / 1e6)
    return Cost(one.operations, memory, 10**6, one.gpus, one.read_bytes)


def _passes(study: Study, model: str, posts: float) -> Cost:
    """Return the cost of a job that runs a classifier over a number of posts."""
    settings = study.settings.models[model]
    depth, width = depth_and_width(study, model)
    tokens = tokens_of_a_post(study)
    weights = model_bytes(study, model)
    # Keys, values, and as much again on the way, of a batch of posts.
    batch = settings.batch_size * tokens * depth * width * 4 * DTYPE_BYTES[settings.dtype]
    return Cost(
        2 * parameters_of(study, model) * posts * tokens,
        PROGRAM_MB + int((2.2 * weights + batch) / 1e6),
        10**7,
        settings.gpus,
        weights,
    )
