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
        classifier=f"{CLASSIFIERS}/manifest.json",
        saes=files_of_layers(POST_SAES, "sae_weights.safetensors", "cfg.json"),
        variants=study.path(study.robustness.variants.file),
    output:
        survival="<results>/spelling_variants/{model}/{checkpoint}/seed_{seed}/{sae}.parquet",
    log:
        "<logs>/measure_variants/{model}/{checkpoint}/seed_{seed}/{sae}.log",
    benchmark:
        "<benchmarks>/measure_variants/{model}/{checkpoint}/seed_{seed}/{sae}.tsv"
    conda:
        "../envs/classifiers.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_robustness.variants_cost, "model", "sae"),
        runtime=runtime_of(stages_robustness.variants_cost, "model", "sae"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("measure_variants"),
        code=code_of("measure_variants"),
        settings=settings_of(stages_robustness.variant_settings, "model", "sae"),
        saes=lambda wildcards, input: layer_folder(input.saes),
    message:
        "Measuring spelling variants of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --saes {params.saes:q} --variants {input.variants:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.survival:q} > {log:q} 2>&1"
