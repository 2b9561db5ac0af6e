"""The slice of a study that each stage of the features study computes with.

As in `stage_settings`: one plain dict a stage, with what changes its results and nothing else.
"""

from __future__ import annotations

from glossogenesis.study.features import InjectionSettings, ParallelText
from glossogenesis.study.inputs import CorpusDemo, CorpusFiles
from glossogenesis.study.loading import injection_model
from glossogenesis.study.study import Study
from glossogenesis.workflow.stages_concepts import Settings, endonyms, labels_of, lexicon_settings


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
