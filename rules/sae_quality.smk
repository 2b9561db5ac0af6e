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

for number, (layers, models) in enumerate(models_by_layers().items()):

    rule:
        name:
            numbered("measure_quality", number)
        input:
            activations=activations_of(layers),
            saes=files_of(layers, "sae", "sae_weights.safetensors"),
        output:
            files_of(layers, "sae", "quality.json"),
        log:
            "<logs>/measure_quality/{model}/{checkpoint}/{sae}.log",
        benchmark:
            "<benchmarks>/measure_quality/{model}/{checkpoint}/{sae}.tsv"
        wildcard_constraints:
            model=any_of(models),
        conda:
            "../envs/saes.yaml"
        threads: model_setting("threads")
        resources:
            gpu=model_setting("gpus"),
            mem_mb=memory_of(
                block_cost(stages_features.quality_cost, layers), "model", "sae"
            ),
            runtime=runtime_of(
                block_cost(stages_features.quality_cost, layers), "model", "sae"
            ),
            study=study.name,
            device=model_setting("device"),
        params:
            script=program("measure_quality"),
            code=code_of("measure_quality"),
            settings="{}",
        message:
            "Measuring {wildcards.sae} of {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --saes {input.saes:q}"
            " --threads {threads} --device {resources.device}"
            " --output {output:q} > {log:q} 2>&1"


rule measure_recovery:
    input:
        checkpoint=checkpoint_manifest,
        corpus=study_corpus_manifest,
        saes=weights_of_all_layers,
    output:
        recovery="<results>/recovery/{model}/{checkpoint}/{sae}.parquet",
    log:
        "<logs>/measure_recovery/{model}/{checkpoint}/{sae}.log",
    benchmark:
        "<benchmarks>/measure_recovery/{model}/{checkpoint}/{sae}.tsv"
    conda:
        "../envs/models.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_features.recovery_cost, "model", "sae"),
        runtime=runtime_of(stages_features.recovery_cost, "model", "sae"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("measure_recovery"),
        code=code_of("measure_recovery"),
        settings=settings_of(stages_features.recovery_settings, "model", "sae"),
        saes=lambda wildcards, input: Path(input.saes[0]).parents[2],
    message:
        "Splicing {wildcards.sae} into {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --corpus {input.corpus:q} --saes {params.saes:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.recovery:q} > {log:q} 2>&1"


for number, (block, models) in enumerate(models_by_block().items()):

    rule:
        name:
            numbered("compare_seeds", number)
        input:
            saes=weights_of_all_seeds(block),
        output:
            files_of(block, "tracking", "seeds.parquet"),
        log:
            f"<logs>/compare_seeds/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.log",
        benchmark:
            f"<benchmarks>/compare_seeds/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.tsv"
        wildcard_constraints:
            model=any_of(models),
        conda:
            "../envs/saes.yaml"
        resources:
            mem_mb=memory_of(
                block_cost(stages_features.seeds_cost, block), "model", "sae"
            ),
            runtime=runtime_of(
                block_cost(stages_features.seeds_cost, block), "model", "sae"
            ),
            study=study.name,
        params:
            script=program("compare_seeds"),
            code=code_of("compare_seeds"),
            settings="{}",
        message:
            "Comparing seeds of {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --saes {input.saes:q} --output {output:q} > {log:q} 2>&1"
