"""Stages of the robustness study."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from glossogenesis.study.study import Study
from glossogenesis.workflow import jobs_robustness as jobs
from glossogenesis.workflow.stages import Artifact, Setup, Stage
from glossogenesis.workflow.stages_checkpoints import (
    figures_stage,
    once,
    own_weights,
    tables,
    without_estimate,
)


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


def _has_variants(study: Study) -> bool:
    return study.robustness.variants is not None


def _varied(study: Study) -> Iterator[Setup]:
    return _each_sae(_runs)(study) if _has_variants(study) else iter(())


def _figures(study: Study) -> Iterator[Setup]:
    for model in study.robustness.models:
        yield {"figure": f"{model}/component_effects"}
    for name in FIGURES:
        if name != "component_effects" and (name != "spelling_variants" or _has_variants(study)):
            yield {"figure": f"robustness/{name}"}


FIGURES = {
    "component_effects": "effects of components",
    "circuit_ablation": "circuits",
    "knockout": "knockout",
    "cues": "cues",
    "spelling_variants": "spelling variants",
}
"""Figures, the first of one model, and what the report calls them."""

RUN = "{model}/{checkpoint}/seed_{seed}"
"""The folder of a classifier below that of a stage."""

# fmt: off
STAGES = (
    Stage(
        "prepare_posts", "posts", "posts", once,
        {"posts": Artifact("posts.parquet", "labelled posts and their splits")},
        jobs.posts_settings, jobs.posts_cost,
    ),
    Stage(
        "tokenise_posts", "tokenised_posts", "posts/{tokenizer}", _tokenizers,
        {"manifest": Artifact("manifest.json", "manifest of tokenised posts")},
        jobs.tokenised_posts_settings, jobs.posts_cost,
        others=(
            Artifact("*.safetensors", "shard of tokenised posts"),
            Artifact("vocabulary.parquet", "vocabulary of tokenised posts"),
        ),
    ),
    Stage(
        "train_baseline", "baseline", "classifiers/baseline", once,
        {"predictions": Artifact("predictions.parquet", "predictions of the baseline")},
        jobs.baseline_settings, jobs.baseline_cost,
    ),
    Stage(
        "finetune_classifier", "classifier", f"classifiers/{RUN}", _runs,
        {
            "manifest": Artifact("manifest.json", "manifest of a classifier"),
            "training": Artifact("training.parquet", "metrics of a classifier by epoch"),
        },
        jobs.classifier_settings, jobs.finetuning_cost, gpu=True, weights=own_weights,
        others=(Artifact("weights/*.safetensors", "weights of a classifier"),),
    ),
    Stage(
        "classify_posts", "predictions", f"classifiers/{RUN}", _runs,
        {
            "predictions": Artifact("predictions.parquet", "predictions of a classifier"),
            "states": Artifact("states.safetensors", "mean-pooled final states of a classifier"),
        },
        jobs.classification_settings, jobs.classification_cost, gpu=True,
    ),
    Stage(
        "select_pairs", "pairs", f"pairs/{RUN}", _runs,
        {"pairs": Artifact("pairs.parquet", "pairs of clean and corrupted posts")},
        jobs.pair_settings, jobs.pairs_cost,
    ),
    Stage(
        "patch_components", "component_effects", f"components/{RUN}", _runs,
        {"effects": Artifact("effects.parquet", "effects of components on every pair")},
        jobs.component_settings, jobs.components_cost, gpu=True,
    ),
    Stage(
        "ablate_circuit", "circuit", f"circuits/{RUN}", _runs,
        {
            "circuit": Artifact("circuit.parquet", "circuits of a classifier at every threshold"),
            "ablations": Artifact(
                "ablations.parquet", "right answers with circuits ablated", "circuit_ablations"
            ),
        },
        jobs.circuit_settings, jobs.circuit_cost, gpu=True,
    ),
    Stage(
        "extract_post_activations", "activations",
        f"post_activations/{RUN}/layer_{{layer}}", _layers,
        {"manifests": Artifact("manifest.json", "manifest of a classifier's activations")},
        jobs.post_activations_settings, jobs.post_activations_cost, gpu=True,
        others=(Artifact("*.safetensors", "shard of a classifier's activations"),),
    ),
    Stage(
        "train_post_saes", "sae", f"post_saes/{RUN}/layer_{{layer}}/{{sae}}", _each_sae(_layers),
        {
            "weights": Artifact(
                "sae_weights.safetensors", "weights of a classifier's sparse autoencoder"
            ),
            "cfg": Artifact("cfg.json", "configuration of a classifier's sparse autoencoder"),
            "training": Artifact(
                "training.parquet", "training steps of a classifier's sparse autoencoder"
            ),
        },
        jobs.post_training_settings, jobs.post_training_cost, gpu=True, program="train_saes",
        reads_cache="extract_post_activations",
    ),
    Stage(
        "collect_label_features", "label_features",
        f"post_features/{RUN}/layer_{{layer}}/{{sae}}", _each_sae(_layers),
        {
            "labels": Artifact("labels.parquet", "effect sizes of features and labels"),
            "features": Artifact("features.parquet", "features of a classifier"),
            "cues": Artifact("cues.parquet", "cues of the top features of labels"),
            "posts": Artifact("posts.parquet", "sparsity and reconstruction of every post"),
        },
        jobs.label_feature_settings, jobs.label_features_cost, gpu=True,
        reads_cache="extract_post_activations",
    ),
    Stage(
        "knock_out_features", "knockout", f"knockout/{RUN}", _each_sae(_runs),
        {"knockout": Artifact("{sae}.parquet", "right answers with features knocked out")},
        jobs.knockout_settings, jobs.knockout_cost, gpu=True,
    ),
    Stage(
        "measure_variants", "spelling_variants", f"spelling_variants/{RUN}", _varied,
        {"survival": Artifact("{sae}.parquet", "survival of features between spellings")},
        jobs.variant_settings, jobs.variants_cost, gpu=True,
    ),
    Stage(
        "tabulate_robustness", "{stem}", "tables", once,
        tables(
            "robustness",
            classification="accuracy and macro F1 of all classifiers",
            circuit="effects and circuits of all classifiers",
            features="sparsity and label-specific features of all classifiers",
            knockout="knockouts of all classifiers, with their controls",
            cues="cues of the labels of all classifiers",
            comparisons="differences between classifiers, tested",
        )
        | tables(
            "robustness", where=_has_variants, variants="spelling variants in all classifiers"
        ),
        jobs.robustness_table_settings, without_estimate(60, memory_mb=6000), copies=(".csv",),
    ),
    figures_stage("robustness", _figures, jobs.robustness_figure_settings),
)
