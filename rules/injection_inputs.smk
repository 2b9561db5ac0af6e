"""
Says which artifacts the injection of features reads; nothing is computed here.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""

INJECTED = {
    "checkpoint": jobs_features.injection_source(study),
    "sae": jobs_features.injection_sae(study),
}


def injected_files(stage):
    """Return what a stage makes of each autoencoder whose features are injected."""
    return made(stage, layers=study.features.injection.layers, **INJECTED)


def injection_prompts(wildcards):
    """Return the concepts study's prompts where they are translated, or nothing."""
    is_used = study.features.injection.translation == "prompts"
    return [made("write_prompts")] if is_used else []


def injection_lexicon(wildcards):
    """Return the lexicon where prompts are translated, or nothing."""
    is_used = study.features.injection.translation == "prompts"
    return lexicon_input(wildcards) if is_used else []


def injection_parallel_text(wildcards):
    """Return the parallel text that is translated, as far as it is in place."""
    paths = [path for _, path in jobs_features.parallel_files(study)]
    return [path for path in paths if os.path.exists(path)]
