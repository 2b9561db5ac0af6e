"""
This part of the workflow gathers the robustness study over its models into tables.

REQUIRED INPUTS:
    everything that the study measured of each model
OUTPUTS:
    <results>/tables/robustness_{classification,circuit,features,knockout,cues,comparisons}.{parquet,csv}
    <results>/tables/robustness_variants.{parquet,csv}             where spelling variants are compared

STEPS:
    tabulate_robustness   tables with intervals and controls, and every difference with its test
"""


rule tabulate_robustness:
    input:
        posts=made("prepare_posts"),
        corpora=every("tokenise_posts"),
        baseline=made("train_baseline"),
        classifiers=every("finetune_classifier", "manifest", "training"),
        predictions=every("classify_posts"),
        pairs=every("select_pairs"),
        effects=every("patch_components"),
        circuits=every("ablate_circuit", "circuit", "ablations"),
        features=every("collect_label_features", "labels", "features", "cues", "posts"),
        knockout=every("knock_out_features"),
        variants=every("measure_variants"),
    output:
        **outputs_of("tabulate_robustness"),
    log:
        log_of("tabulate_robustness"),
    benchmark:
        benchmark_of("tabulate_robustness")
    conda:
        "../envs/classifiers.yaml"
    resources:
        **resources_of("tabulate_robustness"),
    params:
        **params_of("tabulate_robustness"),
        results=results,
    message:
        "Tabulating the robustness study"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --results {params.results:q} --output {params.results:q}/tables > {log:q} 2>&1"
