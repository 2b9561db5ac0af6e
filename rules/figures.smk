"""
This part of the workflow draws the figures.

REQUIRED INPUTS:
    the tables
OUTPUTS:
    <results>/figures/{model}/{figure}.{svg,pdf,csv}     the data behind a figure beside it

STEPS:
    plot_unpatched_accuracy   accuracy without patching over checkpoints, by output language
    plot_patched_accuracy     accuracy of patched settings over checkpoints, by target pair
    plot_start_layers         accuracy over the start layer, by checkpoint
    plot_outcomes             what happened instead when a translation failed, over checkpoints
"""

FIGURES = ["unpatched_accuracy", "patched_accuracy", "start_layers", "outcomes"]


rule plot_unpatched_accuracy:
    input:
        table="<results>/tables/concepts_accuracy.parquet",
    output:
        svg=report(
            "<results>/figures/{model}/unpatched_accuracy.svg",
            caption="../resources/captions/unpatched_accuracy.rst",
            category="Concepts",
            labels={"model": "{model}", "figure": "accuracy without patching"},
        ),
        beside=multiext("<results>/figures/{model}/unpatched_accuracy", ".pdf", ".csv"),
    log:
        "<logs>/plot_unpatched_accuracy/{model}.log",
    benchmark:
        "<benchmarks>/plot_unpatched_accuracy/{model}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_unpatched_accuracy"),
        code=code_of("plot_unpatched_accuracy"),
        settings=settings_of(stage_settings.figure_settings, "model"),
    message:
        "Plotting accuracy without patching of {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --output {output.svg:q} > {log:q} 2>&1"


use rule plot_unpatched_accuracy as plot_patched_accuracy with:
    output:
        svg=report(
            "<results>/figures/{model}/patched_accuracy.svg",
            caption="../resources/captions/patched_accuracy.rst",
            category="Concepts",
            labels={"model": "{model}", "figure": "accuracy of patched settings"},
        ),
        beside=multiext("<results>/figures/{model}/patched_accuracy", ".pdf", ".csv"),
    log:
        "<logs>/plot_patched_accuracy/{model}.log",
    benchmark:
        "<benchmarks>/plot_patched_accuracy/{model}.tsv"
    params:
        script=program("plot_patched_accuracy"),
        code=code_of("plot_patched_accuracy"),
    message:
        "Plotting accuracy of patched settings of {wildcards.model}"


use rule plot_unpatched_accuracy as plot_start_layers with:
    output:
        svg=report(
            "<results>/figures/{model}/start_layers.svg",
            caption="../resources/captions/start_layers.rst",
            category="Concepts",
            labels={"model": "{model}", "figure": "accuracy over start layer"},
        ),
        beside=multiext("<results>/figures/{model}/start_layers", ".pdf", ".csv"),
    log:
        "<logs>/plot_start_layers/{model}.log",
    benchmark:
        "<benchmarks>/plot_start_layers/{model}.tsv"
    params:
        script=program("plot_start_layers"),
        code=code_of("plot_start_layers"),
    message:
        "Plotting accuracy over start layers of {wildcards.model}"


rule plot_outcomes:
    input:
        table="<results>/tables/concepts_outcomes.parquet",
        accuracy="<results>/tables/concepts_accuracy.parquet",
    output:
        svg=report(
            "<results>/figures/{model}/outcomes.svg",
            caption="../resources/captions/outcomes.rst",
            category="Concepts",
            labels={"model": "{model}", "figure": "outcomes"},
        ),
        beside=multiext("<results>/figures/{model}/outcomes", ".pdf", ".csv"),
    log:
        "<logs>/plot_outcomes/{model}.log",
    benchmark:
        "<benchmarks>/plot_outcomes/{model}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_outcomes"),
        code=code_of("plot_outcomes"),
        settings=settings_of(stage_settings.figure_settings, "model"),
    message:
        "Plotting outcomes of {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --accuracy {input.accuracy:q} --output {output.svg:q} > {log:q} 2>&1"
