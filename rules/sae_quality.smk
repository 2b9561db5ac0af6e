"""
This part of the workflow measures how good sparse autoencoders are.

REQUIRED INPUTS:
    trained autoencoders; held-out activations; for recovery, the checkpoint and the corpus
OUTPUTS:
    <results>/sae/{model}/{checkpoint}/layer_{layer}/{sae}/quality.json
    <results>/recovery/{model}/{checkpoint}/{sae}.parquet                           all layers
    <results>/tracking/{model}/{checkpoint}/layer_{layer}/{sae}/seeds.parquet

STEPS:
    measure_quality    reconstruction, sparsity and dead latents on held-out activations
    measure_recovery   cross-entropy when reconstructions replace the residual stream
    compare_seeds      how far dictionaries of different seeds agree

A layer is measured in seconds, so one job measures all layers of a checkpoint; as with
extract_activations, there is one rule for each set of layers. Seeds are compared a block of layers a job.
"""

for number, layers, models in numbered_rules("measure_quality"):

    rule:
        name:
            f"measure_quality{number}"
        input:
            activations=activations_of(layers),
            saes=made("train_saes", "weights", layers),
        output:
            **outputs_of("measure_quality", layers),
        log:
            log_of("measure_quality", layers),
        benchmark:
            benchmark_of("measure_quality", layers)
        wildcard_constraints:
            model=models,
        conda:
            "../envs/saes.yaml"
        threads: threads_of("measure_quality")
        resources:
            **resources_of("measure_quality", layers),
        params:
            **params_of("measure_quality"),
        message:
            "Measuring {wildcards.sae} of {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --saes {input.saes:q}"
            " --threads {threads} --device {resources.device}"
            " --output {output:q} > {log:q} 2>&1"


rule measure_recovery:
    input:
        checkpoint=made("fetch_checkpoint"),
        corpus=study_corpus,
        saes=of_all_layers("train_saes", "weights"),
    output:
        **outputs_of("measure_recovery"),
    log:
        log_of("measure_recovery"),
    benchmark:
        benchmark_of("measure_recovery")
    conda:
        "../envs/models.yaml"
    threads: threads_of("measure_recovery")
    resources:
        **resources_of("measure_recovery"),
    params:
        **params_of("measure_recovery"),
        saes=lambda wildcards, input: Path(input.saes[0]).parents[2],
    message:
        "Splicing {wildcards.sae} into {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --corpus {input.corpus:q} --saes {params.saes:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.recovery:q} > {log:q} 2>&1"


for number, layers, models in numbered_rules("compare_seeds"):

    rule:
        name:
            f"compare_seeds{number}"
        input:
            saes=weights_of_all_seeds(layers),
        output:
            **outputs_of("compare_seeds", layers),
        log:
            log_of("compare_seeds", layers),
        benchmark:
            benchmark_of("compare_seeds", layers)
        wildcard_constraints:
            model=models,
        conda:
            "../envs/saes.yaml"
        resources:
            **resources_of("compare_seeds", layers),
        params:
            **params_of("compare_seeds"),
        message:
            "Comparing seeds of {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --saes {input.saes:q} --output {output:q} > {log:q} 2>&1"
