"""
Says which artifacts the injection of features reads; nothing is computed here.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def injection_source_manifest(wildcards):
    """Return the manifest of the checkpoint whose features are injected."""
    source = stages_features.injection_source(study)
    return f"<results>/checkpoints/{wildcards.model}/{source}/manifest.json"


def injected_files(stage, name):
    """Return an input function: one file of each autoencoder whose features are injected."""

    def files(wildcards):
        source = stages_features.injection_source(study)
        sae = stages_features.injection_sae(study)
        return [
            f"<results>/{stage}/{wildcards.model}/{source}/layer_{layer}/{sae}/{name}"
            for layer in study.features.injection.layers
        ]

    return files


def injection_prompts(wildcards):
    """Return the concepts study's prompts where they are translated, or nothing."""
    if study.features.injection.translation != "prompts":
        return []
    return [f"<results>/prompts/{wildcards.model}/translation.parquet"]


def injection_lexicon(wildcards):
    """Return the lexicon where prompts are translated, or nothing."""
    is_used = study.features.injection.translation == "prompts"
    return lexicon_input(wildcards) if is_used else []


def injection_parallel_text(wildcards):
    """Return the parallel text that is translated, as far as it is in place."""
    return [
        path
        for _, path in stages_features.parallel_files(study)
        if os.path.exists(path)
    ]
