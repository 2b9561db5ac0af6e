"""
This part of the workflow draws the figures of the robustness study.

REQUIRED INPUTS:
    the tables of the robustness study
OUTPUTS:
    <results>/figures/{model}/component_effects.{svg,pdf,csv}
    <results>/figures/robustness/{figure}.{svg,pdf,csv}     all models in one figure

STEPS:
    plot_component_effects   effect of every component, layer by layer, a figure a model
    plot_circuit_ablation    sufficiency and necessity of circuits, with random ones beside them
    plot_knockout            recall without a label's features, and without others
    plot_cues                how many tokens a label's features rest on
    plot_spelling_variants   features that spellings of one concept share
"""

ROBUSTNESS_FIGURES = ["circuit_ablation", "knockout", "cues"]


rule plot_component_effects:
    input:
        table="<results>/tables/robustness_circuit.parquet",
    output:
        svg=report(
            "<results>/figures/{model}/component_effects.svg",
            caption="../resources/captions/component_effects.rst",
            category="Robustness",
            labels={"model": "{model}", "figure": "effects of components"},
        ),
        beside=multiext("<results>/figures/{model}/component_effects", ".pdf", ".csv"),
    log:
        "<logs>/plot_component_effects/{model}.log",
    benchmark:
        "<benchmarks>/plot_component_effects/{model}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_component_effects"),
        code=code_of("plot_component_effects"),
        settings=settings_of(robustness_settings.component_figure_settings, "model"),
    message:
        "Plotting effects of components of {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --output {output.svg:q} > {log:q} 2>&1"


use rule plot_component_effects as plot_circuit_ablation with:
    output:
        svg=report(
            "<results>/figures/robustness/circuit_ablation.svg",
            caption="../resources/captions/circuit_ablation.rst",
            category="Robustness",
            labels={"model": "all", "figure": "circuits"},
        ),
        beside=multiext("<results>/figures/robustness/circuit_ablation", ".pdf", ".csv"),
    log:
        "<logs>/plot_circuit_ablation.log",
    benchmark:
        "<benchmarks>/plot_circuit_ablation.tsv"
    params:
        script=program("plot_circuit_ablation"),
        code=code_of("plot_circuit_ablation"),
        settings=settings_of(robustness_settings.robustness_figure_settings),
    message:
        "Plotting sufficiency and necessity of circuits"


rule plot_knockout:
    input:
        table="<results>/tables/robustness_knockout.parquet",
        features="<results>/tables/robustness_features.parquet",
    output:
        svg=report(
            "<results>/figures/robustness/knockout.svg",
            caption="../resources/captions/knockout.rst",
            category="Robustness",
            labels={"model": "all", "figure": "knockout"},
        ),
        beside=multiext("<results>/figures/robustness/knockout", ".pdf", ".csv"),
    log:
        "<logs>/plot_knockout.log",
    benchmark:
        "<benchmarks>/plot_knockout.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_knockout"),
        code=code_of("plot_knockout"),
        settings=settings_of(robustness_settings.robustness_figure_settings),
    message:
        "Plotting knockout of features"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --features {input.features:q} --output {output.svg:q} > {log:q} 2>&1"


rule plot_cues:
    input:
        table="<results>/tables/robustness_cues.parquet",
        features="<results>/tables/robustness_features.parquet",
        knockout="<results>/tables/robustness_knockout.parquet",
    output:
        svg=report(
            "<results>/figures/robustness/cues.svg",
            caption="../resources/captions/cues.rst",
            category="Robustness",
            labels={"model": "all", "figure": "cues"},
        ),
        beside=multiext("<results>/figures/robustness/cues", ".pdf", ".csv"),
    log:
        "<logs>/plot_cues.log",
    benchmark:
        "<benchmarks>/plot_cues.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        script=program("plot_cues"),
        code=code_of("plot_cues"),
        settings=settings_of(robustness_settings.robustness_figure_settings),
    message:
        "Plotting cues"
    shell:
        "python {params.script} --settings {params.settings:q} --table {input.table:q}"
        " --features {input.features:q} --knockout {input.knockout:q}"
        " --output {output.svg:q} > {log:q} 2>&1"
