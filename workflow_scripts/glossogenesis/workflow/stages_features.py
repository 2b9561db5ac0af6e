"""Stages of the features study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from glossogenesis.study.loading import injection_model
from glossogenesis.study.study import Study
from glossogenesis.workflow import jobs_features as jobs
from glossogenesis.workflow.stages import Artifact, Setup, Stage
from glossogenesis.workflow.stages_checkpoints import (
    CHECKPOINT,
    figures_stage,
    once,
    own_weights,
    tables,
    without_estimate,
)


def is_streamed(study: Study) -> bool:
    """Whether the language model runs while autoencoders are trained."""
    return study.features.activations.mode == "stream"


def is_injected(study: Study) -> bool:
    """Whether features are injected."""
    injection = study.features.injection
    return injection is not None and injection.enabled


def _once_where(asked: Callable[[Study], bool]) -> Callable[[Study], Iterable[Setup]]:
    return lambda study: once(study) if asked(study) else ()


def _is_tracked(study: Study) -> bool:
    return study.features.tracking.enabled


def _corpora(study: Study) -> Iterator[Setup]:
    for tokenizer in dict.fromkeys(map(study.tokenizer_of, study.models_of("features"))):
        yield {"corpus": study.features.corpus, "tokenizer": tokenizer}


def _caches(study: Study) -> Iterator[Setup]:
    for row in study.rows_of("features"):
        for layer in study.layers_of(row.model):
            yield {
                "model": row.model,
                "checkpoint": row.checkpoint,
                "corpus": study.features.corpus,
                "layer": str(layer),
            }


def _models(study: Study) -> Iterator[Setup]:
    for model in study.models_of("features"):
        yield {"model": model}


def _saes(study: Study, names: Iterable[str]) -> Iterator[Setup]:
    names = list(names)
    for row in study.rows_of("features"):
        for layer in map(str, study.layers_of(row.model)):
            for sae in names:
                yield {
                    "model": row.model,
                    "checkpoint": row.checkpoint,
                    "layer": layer,
                    "sae": sae,
                }


def _trained(study: Study) -> Iterator[Setup]:
    return _saes(study, study.features.trained)


def _described(study: Study) -> Iterator[Setup]:
    return _saes(study, study.features.saes)


def _compared(study: Study) -> Iterator[Setup]:
    return _saes(study, [name for name, sae in study.features.saes.items() if len(sae.seeds) > 1])


def _matched(study: Study) -> Iterator[Setup]:
    if not _is_tracked(study):
        return
    firsts = {model: study.feature_checkpoints(model)[0] for model in study.models_of("features")}
    for setup in _described(study):
        if setup["checkpoint"] != firsts[setup["model"]]:
            yield setup


def _recovered(study: Study) -> Iterator[Setup]:
    if study.features.recovery.enabled:
        for row in study.rows_of("features"):
            for sae in study.features.saes:
                yield {"model": row.model, "checkpoint": row.checkpoint, "sae": sae}


def _injected(study: Study) -> Iterator[Setup]:
    if is_injected(study):
        for target in jobs.injection_targets(study):
            yield {"model": injection_model(study), "checkpoint": target}


def _figures(study: Study) -> Iterator[Setup]:
    models = study.models_of("features")
    names = [name for name in FIGURES if name not in ("model_sizes", "injection")]
    if not _is_tracked(study):
        names.remove("feature_tracking")
    for model in models:
        for name in names:
            yield {"figure": f"{model}/{name}"}
    if len(models) > 1:
        yield {"figure": "model_sizes"}
    if is_injected(study):
        yield {"figure": f"{injection_model(study)}/injection"}


def _last_weights(study: Study, setup: Setup) -> list[tuple[str, str]]:
    return [(setup["model"], study.feature_checkpoints(setup["model"])[-1])]


def _streamed_weights(study: Study, setup: Setup) -> list[tuple[str, str]]:
    return own_weights(study, setup) if is_streamed(study) else []


def _injection_weights(study: Study, setup: Setup) -> list[tuple[str, str]]:
    return [*own_weights(study, setup), (setup["model"], jobs.injection_source(study))]


FIGURES = {
    "feature_languages": "languages of features",
    "bilingual_features": "bilingual features by depth",
    "monosemanticity": "monosemanticity",
    "feature_heatmap": "layers and checkpoints",
    "sae_quality": "quality of autoencoders",
    "feature_tracking": "features between checkpoints",
    "model_sizes": "models compared",
    "injection": "injection",
}
"""Figures, and what the report calls them."""

SAE = f"{CHECKPOINT}/layer_{{layer}}/{{sae}}"
"""The folder of an autoencoder below that of a stage."""

# fmt: off
STAGES = (
    Stage(
        "prepare_corpus", "corpus", "corpora/{corpus}/{tokenizer}", _corpora,
        {"manifest": Artifact("manifest.json", "manifest of a tokenised corpus")},
        jobs.corpus_settings, jobs.corpus_cost, threads="several", hub=True,
        others=(
            Artifact("*.safetensors", "shard of a tokenised corpus"),
            Artifact("vocabulary.parquet", "vocabulary of a tokenised corpus"),
        ),
    ),
    Stage(
        "extract_activations", "activations",
        f"activations/{CHECKPOINT}/{{corpus}}/layer_{{layer}}", _caches,
        {"manifests": Artifact("manifest.json", "manifest of a layer's activations")},
        jobs.activations_settings, jobs.activations_cost, gpu=True, weights=own_weights,
        others=(Artifact("*.safetensors", "shard of a layer's activations"),),
    ),
    Stage(
        "extract_embeddings", "embeddings", "embeddings/{model}", _models,
        {"embeddings": Artifact("tokens.safetensors", "vectors of a model's tokens")},
        jobs.embeddings_settings, jobs.embeddings_cost, weights=_last_weights,
    ),
    Stage(
        "train_saes", "sae", f"sae/{SAE}", _trained,
        {
            "weights": Artifact("sae_weights.safetensors", "weights of a sparse autoencoder"),
            "cfg": Artifact("cfg.json", "configuration of a sparse autoencoder"),
            "training": Artifact("training.parquet", "training steps of a sparse autoencoder"),
        },
        jobs.training_settings, jobs.training_cost, gpu=True, in_blocks=True,
        program=lambda study: "stream_saes" if is_streamed(study) else "train_saes",
        reads_cache="extract_activations", weights=_streamed_weights,
    ),
    Stage(
        "measure_quality", "quality", f"sae/{SAE}", _trained,
        {"quality": Artifact("quality.json", "quality of a sparse autoencoder")},
        None, jobs.quality_cost, gpu=True, reads_cache="extract_activations",
    ),
    Stage(
        "measure_recovery", "recovery", f"recovery/{CHECKPOINT}", _recovered,
        {
            "recovery": Artifact(
                "{sae}.parquet", "cross-entropy that a checkpoint's sparse autoencoders recover"
            ),
        },
        jobs.recovery_settings, jobs.recovery_cost, gpu=True, weights=own_weights,
    ),
    Stage(
        "compare_seeds", "seeds", f"tracking/{SAE}", _compared,
        {
            "seeds": Artifact(
                "seeds.parquet", "agreement of sparse autoencoders of different seeds"
            ),
        },
        None, jobs.seeds_cost, in_blocks=True,
    ),
    Stage(
        "collect_features", "features", f"features/{SAE}", _described,
        {
            "statistics": Artifact("statistics.parquet", "statistics and labels of features"),
            "examples": Artifact("examples.parquet", "examples of features"),
            "sensitivity": Artifact(
                "sensitivity.parquet", "labels of features under other choices"
            ),
        },
        jobs.collection_settings, jobs.collection_cost, gpu=True, in_blocks=True,
        reads_cache="extract_activations",
    ),
    Stage(
        "match_features", "matches", f"tracking/{SAE}", _matched,
        {
            "matches": Artifact(
                "matches.parquet", "features matched with those of the checkpoint before"
            ),
        },
        jobs.matching_settings, jobs.matching_cost, in_blocks=True,
    ),
    Stage(
        "inject_features", "injection_{stem}", f"injection/{CHECKPOINT}", _injected,
        {
            "perplexity": Artifact(
                "perplexity.parquet", "perplexity of a checkpoint with features injected"
            ),
            "translation": Artifact(
                "translation.parquet", "translations of a checkpoint with features injected"
            ),
        },
        jobs.injection_settings, jobs.injection_cost, gpu=True, weights=_injection_weights,
    ),
    Stage(
        "tabulate_features", "{stem}", "tables", once,
        tables(
            "features",
            languages="languages of the features of all checkpoints",
            monosemanticity="monosemanticity of all checkpoints",
            quality="quality of the sparse autoencoders of all checkpoints",
            stages="three stages of bilingual features, tested",
            sensitivity="labels under other choices of all checkpoints",
            grid="share of the grid of setups that is covered",
        ),
        jobs.feature_table_settings, without_estimate(120), copies=(".csv",),
    ),
    Stage(
        "tabulate_tracking", "{stem}", "tables", _once_where(_is_tracked),
        tables("features", tracking="features followed over all checkpoints"),
        jobs.tracking_table_settings, without_estimate(60), copies=(".csv",),
    ),
    Stage(
        "tabulate_injection", "{stem}", "tables", _once_where(is_injected),
        tables("features", injection="injections into all checkpoints, with their controls"),
        jobs.injection_table_settings, without_estimate(30), copies=(".csv",),
    ),
    figures_stage("features", _figures, jobs.feature_figure_settings),
)
