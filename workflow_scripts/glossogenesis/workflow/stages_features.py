"""Stages of the features study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from glossogenesis.study.loading import injection_model
from glossogenesis.study.study import Study
from glossogenesis.workflow import jobs_features as jobs
from glossogenesis.workflow.stages import Artifact, Setup, Stage
from glossogenesis.workflow.stages_checkpoints import once, own_weights, without_estimate


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


def _of_sae(stage: str, file: str, words: str, kind: str) -> Artifact:
    return Artifact(f"{stage}/{{model}}/{{checkpoint}}/layer_{{layer}}/{{sae}}/{file}", words, kind)


def _table(name: str, words: str) -> Artifact:
    return Artifact(f"tables/features_{name}.parquet", words, f"features_{name}", (".csv",))


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

CACHE = "activations/{model}/{checkpoint}/{corpus}/layer_{layer}"

STAGES = (
    Stage(
        "prepare_corpus",
        "features",
        outputs={
            "manifest": Artifact(
                "corpora/{corpus}/{tokenizer}/manifest.json",
                "manifest of a tokenised corpus",
                "corpus",
            ),
        },
        beside=(
            Artifact(
                "corpora/{corpus}/{tokenizer}/*.safetensors",
                "shard of a tokenised corpus",
                "corpus",
            ),
            Artifact(
                "corpora/{corpus}/{tokenizer}/vocabulary.parquet",
                "vocabulary of a tokenised corpus",
                "corpus",
            ),
        ),
        setups=_corpora,
        settings=jobs.corpus_settings,
        cost=jobs.corpus_cost,
        threads="several",
        hub=True,
    ),
    Stage(
        "extract_activations",
        "features",
        outputs={
            "manifests": Artifact(
                f"{CACHE}/manifest.json", "manifest of a layer's activations", "activations"
            ),
        },
        beside=(
            Artifact(
                f"{CACHE}/*.safetensors",
                "shard of a layer's activations",
                "activations",
            ),
        ),
        setups=_caches,
        settings=jobs.activations_settings,
        cost=jobs.activations_cost,
        threads="model",
        gpu=True,
        weights=own_weights,
    ),
    Stage(
        "extract_embeddings",
        "features",
        outputs={
            "embeddings": Artifact(
                "embeddings/{model}/tokens.safetensors",
                "vectors of a model's tokens",
                "embeddings",
            ),
        },
        setups=_models,
        settings=jobs.embeddings_settings,
        cost=jobs.embeddings_cost,
        weights=_last_weights,
    ),
    Stage(
        "train_saes",
        "features",
        outputs={
            "weights": _of_sae(
                "sae", "sae_weights.safetensors", "weights of a sparse autoencoder", "sae"
            ),
            "cfg": _of_sae("sae", "cfg.json", "configuration of a sparse autoencoder", "sae"),
            "training": _of_sae(
                "sae", "training.parquet", "training steps of a sparse autoencoder", "sae"
            ),
        },
        setups=_trained,
        settings=jobs.training_settings,
        cost=jobs.training_cost,
        program=lambda study: "stream_saes" if is_streamed(study) else "train_saes",
        threads="model",
        gpu=True,
        in_blocks=True,
        reads_cache="extract_activations",
        weights=_streamed_weights,
    ),
    Stage(
        "measure_quality",
        "features",
        outputs={
            "quality": _of_sae("sae", "quality.json", "quality of a sparse autoencoder", "quality"),
        },
        setups=_trained,
        cost=jobs.quality_cost,
        threads="model",
        gpu=True,
        reads_cache="extract_activations",
    ),
    Stage(
        "measure_recovery",
        "features",
        outputs={
            "recovery": Artifact(
                "recovery/{model}/{checkpoint}/{sae}.parquet",
                "cross-entropy that a checkpoint's sparse autoencoders recover",
                "recovery",
            ),
        },
        setups=_recovered,
        settings=jobs.recovery_settings,
        cost=jobs.recovery_cost,
        threads="model",
        gpu=True,
        weights=own_weights,
    ),
    Stage(
        "compare_seeds",
        "features",
        outputs={
            "seeds": _of_sae(
                "tracking",
                "seeds.parquet",
                "agreement of sparse autoencoders of different seeds",
                "seeds",
            ),
        },
        setups=_compared,
        cost=jobs.seeds_cost,
        in_blocks=True,
    ),
    Stage(
        "collect_features",
        "features",
        outputs={
            "statistics": _of_sae(
                "features", "statistics.parquet", "statistics and labels of features", "features"
            ),
            "examples": _of_sae("features", "examples.parquet", "examples of features", "features"),
            "sensitivity": _of_sae(
                "features",
                "sensitivity.parquet",
                "labels of features under other choices",
                "features",
            ),
        },
        setups=_described,
        settings=jobs.collection_settings,
        cost=jobs.collection_cost,
        threads="model",
        gpu=True,
        in_blocks=True,
        reads_cache="extract_activations",
    ),
    Stage(
        "match_features",
        "features",
        outputs={
            "matches": _of_sae(
                "tracking",
                "matches.parquet",
                "features matched with those of the checkpoint before",
                "matches",
            ),
        },
        setups=_matched,
        settings=jobs.matching_settings,
        cost=jobs.matching_cost,
        in_blocks=True,
    ),
    Stage(
        "inject_features",
        "features",
        outputs={
            "perplexity": Artifact(
                "injection/{model}/{checkpoint}/perplexity.parquet",
                "perplexity of a checkpoint with features injected",
                "injection_perplexity",
            ),
            "translation": Artifact(
                "injection/{model}/{checkpoint}/translation.parquet",
                "translations of a checkpoint with features injected",
                "injection_translation",
            ),
        },
        setups=_injected,
        settings=jobs.injection_settings,
        cost=jobs.injection_cost,
        threads="model",
        gpu=True,
        weights=_injection_weights,
    ),
    Stage(
        "tabulate_features",
        "features",
        outputs={
            "languages": _table("languages", "languages of the features of all checkpoints"),
            "monosemanticity": _table("monosemanticity", "monosemanticity of all checkpoints"),
            "quality": _table("quality", "quality of the sparse autoencoders of all checkpoints"),
            "stages": _table("stages", "three stages of bilingual features, tested"),
            "sensitivity": _table("sensitivity", "labels under other choices of all checkpoints"),
            "grid": _table("grid", "share of the grid of setups that is covered"),
        },
        setups=once,
        settings=jobs.feature_table_settings,
        cost=without_estimate(120),
    ),
    Stage(
        "tabulate_tracking",
        "features",
        outputs={"tracking": _table("tracking", "features followed over all checkpoints")},
        setups=_once_where(_is_tracked),
        settings=jobs.tracking_table_settings,
        cost=without_estimate(60),
    ),
    Stage(
        "tabulate_injection",
        "features",
        outputs={
            "injection": _table("injection", "injections into all checkpoints, with their controls")
        },
        setups=_once_where(is_injected),
        settings=jobs.injection_table_settings,
        cost=without_estimate(30),
    ),
    Stage(
        "plot_features",
        "features",
        outputs={
            "svg": Artifact(
                "figures/{figure}.svg",
                "figures of the features study, and the numbers drawn in them",
                copies=(".pdf", ".csv"),
            ),
        },
        setups=_figures,
        settings=jobs.feature_figure_settings,
        cost=without_estimate(15, memory_mb=2000),
        program="plot_figures",
    ),
)
