"""
This part of the workflow compares the features of different spellings of one concept.

REQUIRED INPUTS:
    classifiers and their autoencoders; the table of spellings
OUTPUTS:
    <results>/spelling_variants/{model}/{checkpoint}/seed_{seed}/{sae}.parquet

STEPS:
    measure_variants   share of a spelling's strongest features that another spelling has too
"""


rule measure_variants:
    input:
        classifier=made("finetune_classifier"),
        saes=of_all_layers("train_post_saes", "weights", "cfg"),
        variants=study.path(study.robustness.variants.file),
    output:
        **outputs_of("measure_variants"),
    log:
        log_of("measure_variants"),
    benchmark:
        benchmark_of("measure_variants")
    conda:
        "../envs/classifiers.yaml"
    threads: threads_of("measure_variants")
    resources:
        **resources_of("measure_variants"),
    params:
        **params_of("measure_variants"),
        saes=lambda wildcards, input: layer_folder(input.saes),
    message:
        "Measuring spelling variants of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --saes {params.saes:q} --variants {input.variants:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.survival:q} > {log:q} 2>&1"
