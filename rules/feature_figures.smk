"""
This part of the workflow draws the figures of the features study.

REQUIRED INPUTS:
    the tables of the features study
OUTPUTS:
    <results>/figures/{model}/{figure}.{svg,pdf,csv}     the data behind a figure beside it
    <results>/figures/model_sizes.{svg,pdf,csv}

STEPS:
    plot_feature_languages   share of each language among features over checkpoints, by layer
    plot_monosemanticity     how far features stand for one meaning over checkpoints, by layer
    plot_feature_heatmap     mixed share and monosemanticity by layer and checkpoint
    plot_sae_quality         reconstruction, sparsity, dead latents, recovered cross-entropy
    plot_feature_tracking    births, deaths and changes of language between checkpoints
    plot_injection           perplexity with groups of features injected, and with controls
    plot_model_sizes         the same curves, a line a model
"""

FEATURE_FIGURES = [
    "feature_languages",
    "monosemanticity",
    "feature_heatmap",
    "sae_quality",
]
TRACKING_FIGURES = ["feature_tracking"]

FEATURE_FIGURE = "<results>/figures/{model}"


rule plot_feature_languages:
    input:
        table="<results>/tables/features_languages.parquet",
        stages="<results>/tables/features_stages.parquet",
    output:
        svg=report(
            f"{FEATURE_FIGURE}/feature_languages.svg",
            caption="../resources/captions/feature_languages.rst",
            category="Features",
            labels={"model": "{model}", "figure": "languages of features"},
        ),
        beside=multiext(f"{FEATURE_FIGURE}/feature_languages", ".pdf", ".csv"),
    log:
        "<logs>/plot_feature_languages/{model}.log",
    benchmark:
        "<benchmarks>/plot_feature_languages/{model}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_feature_languages"),
        code=code_of("plot_feature_languages"),
        settings=settings_of(feature_settings.feature_figure_settings, "model"),
    message:
        "Plotting languages of features of {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --stages {input.stages:q} --output {output.svg:q} > {log:q} 2>&1"


rule plot_monosemanticity:
    input:
        table="<results>/tables/features_monosemanticity.parquet",
    output:
        svg=report(
            f"{FEATURE_FIGURE}/monosemanticity.svg",
            caption="../resources/captions/monosemanticity.rst",
            category="Features",
            labels={"model": "{model}", "figure": "monosemanticity"},
        ),
        beside=multiext(f"{FEATURE_FIGURE}/monosemanticity", ".pdf", ".csv"),
    log:
        "<logs>/plot_monosemanticity/{model}.log",
    benchmark:
        "<benchmarks>/plot_monosemanticity/{model}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_monosemanticity"),
        code=code_of("plot_monosemanticity"),
        settings=settings_of(feature_settings.feature_figure_settings, "model"),
    message:
        "Plotting monosemanticity of {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --output {output.svg:q} > {log:q} 2>&1"


use rule plot_monosemanticity as plot_sae_quality with:
    input:
        table="<results>/tables/features_quality.parquet",
    output:
        svg=report(
            f"{FEATURE_FIGURE}/sae_quality.svg",
            caption="../resources/captions/sae_quality.rst",
            category="Features",
            labels={"model": "{model}", "figure": "quality of autoencoders"},
        ),
        beside=multiext(f"{FEATURE_FIGURE}/sae_quality", ".pdf", ".csv"),
    log:
        "<logs>/plot_sae_quality/{model}.log",
    benchmark:
        "<benchmarks>/plot_sae_quality/{model}.tsv"
    params:
        script=program("plot_sae_quality"),
        code=code_of("plot_sae_quality"),
    message:
        "Plotting quality of autoencoders of {wildcards.model}"


use rule plot_monosemanticity as plot_feature_tracking with:
    input:
        table="<results>/tables/features_tracking.parquet",
    output:
        svg=report(
            f"{FEATURE_FIGURE}/feature_tracking.svg",
            caption="../resources/captions/feature_tracking.rst",
            category="Features",
            labels={"model": "{model}", "figure": "features between checkpoints"},
        ),
        beside=multiext(f"{FEATURE_FIGURE}/feature_tracking", ".pdf", ".csv"),
    log:
        "<logs>/plot_feature_tracking/{model}.log",
    benchmark:
        "<benchmarks>/plot_feature_tracking/{model}.tsv"
    params:
        script=program("plot_feature_tracking"),
        code=code_of("plot_feature_tracking"),
    message:
        "Plotting features of {wildcards.model} between checkpoints"


use rule plot_monosemanticity as plot_injection with:
    input:
        table="<results>/tables/features_injection.parquet",
    output:
        svg=report(
            f"{FEATURE_FIGURE}/injection.svg",
            caption="../resources/captions/injection.rst",
            category="Features",
            labels={"model": "{model}", "figure": "injection"},
        ),
        beside=multiext(f"{FEATURE_FIGURE}/injection", ".pdf", ".csv"),
    log:
        "<logs>/plot_injection/{model}.log",
    benchmark:
        "<benchmarks>/plot_injection/{model}.tsv"
    params:
        script=program("plot_injection"),
        code=code_of("plot_injection"),
    message:
        "Plotting injections into {wildcards.model}"


rule plot_feature_heatmap:
    input:
        table="<results>/tables/features_languages.parquet",
        monosemanticity="<results>/tables/features_monosemanticity.parquet",
    output:
        svg=report(
            f"{FEATURE_FIGURE}/feature_heatmap.svg",
            caption="../resources/captions/feature_heatmap.rst",
            category="Features",
            labels={"model": "{model}", "figure": "layers and checkpoints"},
        ),
        beside=multiext(f"{FEATURE_FIGURE}/feature_heatmap", ".pdf", ".csv"),
    log:
        "<logs>/plot_feature_heatmap/{model}.log",
    benchmark:
        "<benchmarks>/plot_feature_heatmap/{model}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_feature_heatmap"),
        code=code_of("plot_feature_heatmap"),
        settings=settings_of(feature_settings.feature_figure_settings, "model"),
    message:
        "Plotting features of {wildcards.model} by layer and checkpoint"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --monosemanticity {input.monosemanticity:q} --output {output.svg:q} > {log:q} 2>&1"


use rule plot_feature_heatmap as plot_model_sizes with:
    output:
        svg=report(
            "<results>/figures/model_sizes.svg",
            caption="../resources/captions/model_sizes.rst",
            category="Features",
            labels={"model": "all", "figure": "models compared"},
        ),
        beside=multiext("<results>/figures/model_sizes", ".pdf", ".csv"),
    log:
        "<logs>/plot_model_sizes.log",
    benchmark:
        "<benchmarks>/plot_model_sizes.tsv"
    params:
        script=program("plot_model_sizes"),
        code=code_of("plot_model_sizes"),
        settings=settings_of(feature_settings.model_sizes_settings),
    message:
        "Plotting models compared"
