"""Stages of the robustness study."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from glossogenesis.study.study import Study
from glossogenesis.workflow import jobs_robustness as jobs
from glossogenesis.workflow.stages import Artifact, Setup, Stage
from glossogenesis.workflow.stages_checkpoints import once, own_weights, without_estimate


def _tokenizers(study: Study) -> Iterator[Setup]:
    for tokenizer in dict.fromkeys(map(study.tokenizer_of, study.robustness.models)):
        yield {"tokenizer": tokenizer}


def _runs(study: Study) -> Iterator[Setup]:
    for run in study.robustness.runs:
        yield {"model": run.model, "checkpoint": run.checkpoint, "seed": str(run.seed)}


def _layers(study: Study) -> Iterator[Setup]:
    for run in _runs(study):
        for layer in study.layers_of(run["model"]):
            yield {**run, "layer": str(layer)}


def _each_sae(setups: Callable[[Study], Iterator[Setup]]) -> Callable[[Study], Iterator[Setup]]:
    def of_saes(study: Study) -> Iterator[Setup]:
        for setup in setups(study):
            for sae in study.robustness.trained:
                yield {**setup, "sae": sae}

    return of_saes


def has_variants(study: Study) -> bool:
    """Whether spelling variants are compared."""
    return study.robustness.variants is not None


def _varied(study: Study) -> Iterator[Setup]:
    return _each_sae(_runs)(study) if has_variants(study) else iter(())


def _figures(study: Study) -> Iterator[Setup]:
    for model in study.robustness.models:
        yield {"figure": f"{model}/component_effects"}
    for name in FIGURES:
        if name != "component_effects" and (name != "spelling_variants" or has_variants(study)):
            yield {"figure": f"robustness/{name}"}


def _of_run(path: str, words: str, kind: str) -> Artifact:
    stage, _, file = path.partition("/")
    return Artifact(f"{stage}/{{model}}/{{checkpoint}}/seed_{{seed}}/{file}", words, kind)


def _of_sae(stage: str, file: str, words: str, kind: str) -> Artifact:
    return _of_run(f"{stage}/layer_{{layer}}/{{sae}}/{file}", words, kind)


def _table(name: str, words: str, where: Callable[[Study], bool] | None = None) -> Artifact:
    path = f"tables/robustness_{name}.parquet"
    return Artifact(path, words, f"robustness_{name}", (".csv",), where=where)


FIGURES = {
    "component_effects": "effects of components",
    "circuit_ablation": "circuits",
    "knockout": "knockout",
    "cues": "cues",
    "spelling_variants": "spelling variants",
}
"""Figures, the first of one model, and what the report calls them."""

STAGES = (
    Stage(
        "prepare_posts",
        "robustness",
        outputs={
            "posts": Artifact("posts/posts.parquet", "labelled posts and their splits", "posts")
        },
        setups=once,
        settings=jobs.posts_settings,
        cost=jobs.posts_cost,
    ),
    Stage(
        "tokenise_posts",
        "robustness",
        outputs={
            "manifest": Artifact(
                "posts/{tokenizer}/manifest.json", "manifest of tokenised posts", "tokenised_posts"
            ),
        },
        beside=(
            Artifact(
                "posts/{tokenizer}/*.safetensors", "shard of tokenised posts", "tokenised_posts"
            ),
            Artifact(
                "posts/{tokenizer}/vocabulary.parquet",
                "vocabulary of tokenised posts",
                "tokenised_posts",
            ),
        ),
        setups=_tokenizers,
        settings=jobs.tokenised_posts_settings,
        cost=jobs.posts_cost,
    ),
    Stage(
        "train_baseline",
        "robustness",
        outputs={
            "predictions": Artifact(
                "classifiers/baseline/predictions.parquet",
                "predictions of the baseline",
                "baseline",
            ),
        },
        setups=once,
        settings=jobs.baseline_settings,
        cost=jobs.baseline_cost,
    ),
    Stage(
        "finetune_classifier",
        "robustness",
        outputs={
            "manifest": _of_run(
                "classifiers/manifest.json", "manifest of a classifier", "classifier"
            ),
            "training": _of_run(
                "classifiers/training.parquet", "metrics of a classifier by epoch", "classifier"
            ),
        },
        beside=(
            _of_run("classifiers/weights/*.safetensors", "weights of a classifier", "classifier"),
        ),
        setups=_runs,
        settings=jobs.classifier_settings,
        cost=jobs.finetuning_cost,
        threads="model",
        gpu=True,
        weights=own_weights,
    ),
    Stage(
        "classify_posts",
        "robustness",
        outputs={
            "predictions": _of_run(
                "classifiers/predictions.parquet", "predictions of a classifier", "predictions"
            ),
            "states": _of_run(
                "classifiers/states.safetensors",
                "mean-pooled final states of a classifier",
                "predictions",
            ),
        },
        setups=_runs,
        settings=jobs.classification_settings,
        cost=jobs.classification_cost,
        threads="model",
        gpu=True,
    ),
    Stage(
        "select_pairs",
        "robustness",
        outputs={
            "pairs": _of_run("pairs/pairs.parquet", "pairs of clean and corrupted posts", "pairs")
        },
        setups=_runs,
        settings=jobs.pair_settings,
        cost=jobs.pairs_cost,
    ),
    Stage(
        "patch_components",
        "robustness",
        outputs={
            "effects": _of_run(
                "components/effects.parquet",
                "effects of components on every pair",
                "component_effects",
            ),
        },
        setups=_runs,
        settings=jobs.component_settings,
        cost=jobs.components_cost,
        threads="model",
        gpu=True,
    ),
    Stage(
        "ablate_circuit",
        "robustness",
        outputs={
            "circuit": _of_run(
                "circuits/circuit.parquet", "circuits of a classifier at every threshold", "circuit"
            ),
            "ablations": _of_run(
                "circuits/ablations.parquet",
                "right answers with circuits ablated",
                "circuit_ablations",
            ),
        },
        setups=_runs,
        settings=jobs.circuit_settings,
        cost=jobs.circuit_cost,
        threads="model",
        gpu=True,
    ),
    Stage(
        "extract_post_activations",
        "robustness",
        outputs={
            "manifests": _of_run(
                "post_activations/layer_{layer}/manifest.json",
                "manifest of a layer's activations in a classifier",
                "activations",
            ),
        },
        beside=(
            _of_run(
                "post_activations/layer_{layer}/*.safetensors",
                "shard of a layer's activations in a classifier",
                "activations",
            ),
        ),
        setups=_layers,
        settings=jobs.post_activations_settings,
        cost=jobs.post_activations_cost,
        threads="model",
        gpu=True,
    ),
    Stage(
        "train_post_saes",
        "robustness",
        outputs={
            "weights": _of_sae(
                "post_saes",
                "sae_weights.safetensors",
                "weights of a classifier's sparse autoencoder",
                "sae",
            ),
            "cfg": _of_sae(
                "post_saes",
                "cfg.json",
                "configuration of a classifier's sparse autoencoder",
                "sae",
            ),
            "training": _of_sae(
                "post_saes",
                "training.parquet",
                "training steps of a classifier's sparse autoencoder",
                "sae",
            ),
        },
        setups=_each_sae(_layers),
        settings=jobs.post_training_settings,
        cost=jobs.post_training_cost,
        program="train_saes",
        threads="model",
        gpu=True,
        reads_cache="extract_post_activations",
    ),
    Stage(
        "collect_label_features",
        "robustness",
        outputs={
            "labels": _of_sae(
                "post_features",
                "labels.parquet",
                "effect sizes of features and labels",
                "label_features",
            ),
            "features": _of_sae(
                "post_features", "features.parquet", "features of a classifier", "label_features"
            ),
            "cues": _of_sae(
                "post_features",
                "cues.parquet",
                "cues of the top features of labels",
                "label_features",
            ),
            "posts": _of_sae(
                "post_features",
                "posts.parquet",
                "sparsity and reconstruction of every post",
                "label_features",
            ),
        },
        setups=_each_sae(_layers),
        settings=jobs.label_feature_settings,
        cost=jobs.label_features_cost,
        threads="model",
        gpu=True,
        reads_cache="extract_post_activations",
    ),
    Stage(
        "knock_out_features",
        "robustness",
        outputs={
            "knockout": _of_run(
                "knockout/{sae}.parquet", "right answers with features knocked out", "knockout"
            ),
        },
        setups=_each_sae(_runs),
        settings=jobs.knockout_settings,
        cost=jobs.knockout_cost,
        threads="model",
        gpu=True,
    ),
    Stage(
        "measure_variants",
        "robustness",
        outputs={
            "survival": _of_run(
                "spelling_variants/{sae}.parquet",
                "survival of features between spellings",
                "spelling_variants",
            ),
        },
        setups=_varied,
        settings=jobs.variant_settings,
        cost=jobs.variants_cost,
        threads="model",
        gpu=True,
    ),
    Stage(
        "tabulate_robustness",
        "robustness",
        outputs={
            "classification": _table("classification", "accuracy and macro F1 of all classifiers"),
            "circuit": _table("circuit", "effects and circuits of all classifiers"),
            "features": _table(
                "features", "sparsity and label-specific features of all classifiers"
            ),
            "knockout": _table("knockout", "knockouts of all classifiers, with their controls"),
            "cues": _table("cues", "cues of the labels of all classifiers"),
            "comparisons": _table("comparisons", "differences between classifiers, tested"),
            "variants": _table(
                "variants", "spelling variants in all classifiers", where=has_variants
            ),
        },
        setups=once,
        settings=jobs.robustness_table_settings,
        cost=without_estimate(60, memory_mb=6000),
    ),
    Stage(
        "plot_robustness",
        "robustness",
        outputs={
            "svg": Artifact(
                "figures/{figure}.svg",
                "figures of the robustness study, and the numbers drawn in them",
                copies=(".pdf", ".csv"),
            ),
        },
        setups=_figures,
        settings=jobs.robustness_figure_settings,
        cost=without_estimate(15, memory_mb=2000),
        program="plot_figures",
    ),
)
