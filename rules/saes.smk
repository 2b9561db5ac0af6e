"""
This part of the workflow trains sparse autoencoders.

REQUIRED INPUTS:
    activation caches; for streaming, also the checkpoint and the corpus
OUTPUTS:
    <results>/sae/{model}/{checkpoint}/layer_{layer}/{sae}/     cfg.json, sae_weights.safetensors,
                                                                training.parquet

STEPS:
    train_sae          trains on a cached layer, all learning rates in one pass
    train_saes         in mode `stream`: trains a block of layers while the language model runs
"""

SAE_FOLDER = "<results>/sae/{model}/{checkpoint}/layer_{layer}/{sae}"

if study.features.activations.mode == "cache":

    rule train_sae:
        input:
            activations=activations_of("{layer}"),
            warm_start=earlier_sae,
        output:
            weights=f"{SAE_FOLDER}/sae_weights.safetensors",
            cfg=f"{SAE_FOLDER}/cfg.json",
            training=f"{SAE_FOLDER}/training.parquet",
        log:
            "<logs>/train_sae/{model}/{checkpoint}/layer_{layer}/{sae}.log",
        benchmark:
            "<benchmarks>/train_sae/{model}/{checkpoint}/layer_{layer}/{sae}.tsv"
        conda:
            "../envs/saes.yaml"
        threads: model_setting("threads")
        resources:
            gpu=model_setting("gpus"),
            mem_mb=memory_of(feature_costs.training_cost, "model", "sae"),
            runtime=runtime_of(feature_costs.training_cost, "model", "sae"),
            disk_mb=disk_of(feature_costs.training_cost, "model", "sae"),
            study=study.name,
            device=model_setting("device"),
        params:
            script=program("train_sae"),
            code=code_of("train_sae"),
            settings=settings_of(feature_settings.training_settings, "sae"),
            resume_dir=resume_dir,
        message:
            "Training {wildcards.sae} on {wildcards.model} {wildcards.checkpoint} layer {wildcards.layer}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --warm-start {input.warm_start:q}"
            " --resume-dir {params.resume_dir:q} --threads {threads} --device {resources.device}"
            " --output {output.weights:q} --training {output.training:q} > {log:q} 2>&1"

else:

    # One job trains a block of layers, so its outputs depend on the block: a rule for each.
    for number, (block, models) in enumerate(models_by_block().items()):

        rule:
            name:
                numbered("train_saes", number)
            input:
                checkpoint=checkpoint_manifest,
                corpus=study_corpus_manifest,
                activations=activations_of(block),
                warm_start=earlier_saes(block),
            output:
                weights=files_of(block, "sae", "sae_weights.safetensors"),
                cfg=files_of(block, "sae", "cfg.json"),
                training=files_of(block, "sae", "training.parquet"),
            log:
                f"<logs>/train_saes/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.log",
            benchmark:
                f"<benchmarks>/train_saes/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.tsv"
            wildcard_constraints:
                model=any_of(models),
            conda:
                "../envs/models.yaml"
            threads: model_setting("threads")
            resources:
                gpu=model_setting("gpus"),
                mem_mb=memory_of(
                    block_cost(feature_costs.streaming_cost, block), "model", "sae"
                ),
                runtime=runtime_of(
                    block_cost(feature_costs.streaming_cost, block), "model", "sae"
                ),
                disk_mb=disk_of(
                    block_cost(feature_costs.streaming_cost, block), "model", "sae"
                ),
                study=study.name,
                batch_size=model_setting("batch_size"),
                device=model_setting("device"),
            params:
                script=program("train_saes"),
                code=code_of("train_saes"),
                settings=settings_of(block_settings(block), "model", "sae"),
                resume_dir=resume_dir,
                activations=lambda wildcards, input: Path(
                    input.activations[0]
                ).parents[1],
                folder=lambda wildcards, output: Path(output[0]).parents[2],
                warm_start=earlier_checkpoint_folder,
            message:
                "Training {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}, several layers"
            shell:
                "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
                " --checkpoint {input.checkpoint:q} --corpus {input.corpus:q}"
                " --activations {params.activations:q} --warm-start {params.warm_start:q}"
                " --resume-dir {params.resume_dir:q} --batch-size {resources.batch_size}"
                " --threads {threads} --device {resources.device} --sae {wildcards.sae:q}"
                " --output {params.folder:q} > {log:q} 2>&1"
