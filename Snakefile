"""Glossogenesis: how a language model becomes multilingual, checkpoint by checkpoint.

`config.yaml` is the demo study; give another with `--configfile study.yaml`, and nothing of the
demo is read.
"""

from snakemake.utils import min_version

min_version("9.27")


if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


pathvars:
    results="results",
    logs="logs",
    benchmarks="benchmarks/measured",


include: "rules/common.smk"
include: "rules/stages.smk"
include: "rules/job_lookup.smk"
include: "rules/scheduler.smk"
include: "rules/runs.smk"
include: "rules/targets.smk"
include: "rules/checkpoint_inputs.smk"
include: "rules/checkpoints.smk"


if study.has_concepts:

    include: "rules/prompts.smk"
    include: "rules/concepts.smk"
    include: "rules/tables.smk"


if study.has_features:

    include: "rules/feature_inputs.smk"
    include: "rules/corpora.smk"
    include: "rules/activations.smk"
    include: "rules/saes.smk"
    include: "rules/sae_quality.smk"
    include: "rules/features.smk"
    include: "rules/feature_tables.smk"

    if in_study("inject_features"):

        include: "rules/injection_inputs.smk"
        include: "rules/injection.smk"


if study.has_robustness:

    include: "rules/robustness_inputs.smk"
    include: "rules/posts.smk"
    include: "rules/classifiers.smk"
    include: "rules/circuits.smk"
    include: "rules/classifier_features.smk"
    include: "rules/robustness_tables.smk"

    if in_study("measure_variants"):

        include: "rules/spelling_variants.smk"


include: "rules/figures.smk"


rule all:
    default_target: True
    input:
        targets_of("concepts"),
        targets_of("features"),
        targets_of("robustness"),
        downloads_to_remove(),


rule concepts:
    """The concepts study: its tables and figures."""
    input:
        targets_of("concepts"),


rule features:
    """The features study: its tables and figures."""
    input:
        targets_of("features"),


rule robustness:
    """The robustness study: its tables and figures."""
    input:
        targets_of("robustness"),
