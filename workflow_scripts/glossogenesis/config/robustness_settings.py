"""The slice of a study that each stage of the robustness study computes with.

As in `stage_settings`: one plain dict a stage, with what changes its results and nothing else.
"""

from __future__ import annotations

from glossogenesis.study.robustness import VariantSettings
from glossogenesis.study.study import Study
from glossogenesis.workflow.stages_concepts import Settings, labels_of


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
