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

ROBUSTNESS_TABLES = [
    "classification",
    "circuit",
    "features",
    "knockout",
    "cues",
    "comparisons",
]


rule tabulate_robustness:
    input:
        posts="<results>/posts/posts.parquet",
        corpora=posts_of_each_tokenizer(),
        baseline="<results>/classifiers/baseline/predictions.parquet",
        classifiers=of_each_model(
            "classifiers", "manifest.json", "training.parquet", "predictions.parquet"
        ),
        pairs=of_each_model("pairs", "pairs.parquet"),
        effects=of_each_model("components", "effects.parquet"),
        circuits=of_each_model("circuits", "circuit.parquet", "ablations.parquet"),
        features=of_each_layer(
            "post_features", *[f"{name}.parquet" for name in LABEL_FILES]
        ),
        knockout=of_each_sae("knockout"),
        variants=of_each_sae("spelling_variants") if has_variants() else [],
    output:
        expand("<results>/tables/robustness_{table}.parquet", table=robustness_tables()),
        *[robustness_table(table) for table in robustness_tables()],
    log:
        "<logs>/tabulate_robustness.log",
    benchmark:
        "<benchmarks>/tabulate_robustness.tsv"
    conda:
        "../envs/classifiers.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        study=study.name,
    params:
        script=program("tabulate_robustness"),
        code=code_of("tabulate_robustness"),
        settings=settings_of(stages_robustness.robustness_table_settings),
        results=results,
    message:
        "Tabulating the robustness study"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --results {params.results:q} --output {params.results:q}/tables > {log:q} 2>&1"
