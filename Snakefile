"""Glossogenesis: how a language model becomes multilingual, checkpoint by checkpoint.

`config.yaml` is the demo study; give another with `--configfile study.yaml`, and nothing of the
demo is read.
"""

from snakemake.utils import min_version

min_version("9.12")


if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


pathvars:
    results="results",
    logs="logs",
    benchmarks="benchmarks/measured",


include: "rules/common.smk"
include: "rules/targets.smk"
include: "rules/checkpoints.smk"


if study.has_concepts:

    include: "rules/prompts.smk"
    include: "rules/concepts.smk"
    include: "rules/tables.smk"
    include: "rules/figures.smk"


if study.has_features:

    include: "rules/feature_inputs.smk"
    include: "rules/corpora.smk"
    include: "rules/activations.smk"
    include: "rules/saes.smk"
    include: "rules/sae_quality.smk"
    include: "rules/features.smk"
    include: "rules/feature_table_inputs.smk"
    include: "rules/feature_tables.smk"
    include: "rules/feature_figures.smk"

    if is_injected():

        include: "rules/injection.smk"


rule all:
    default_target: True
    input:
        concepts_targets(),
        features_targets(),


rule concepts:
    """The concepts study: its tables and figures."""
    input:
        concepts_targets(),


rule features:
    """The features study: its tables and figures."""
    input:
        features_targets(),
