"""
This part of the workflow trains sparse autoencoders.

REQUIRED INPUTS:
    activation caches; for streaming, also the checkpoint and the corpus
OUTPUTS:
    <results>/sae/{model}/{checkpoint}/layer_{layer}/{sae}/     cfg.json, sae_weights.safetensors,
                                                                training.parquet

STEPS:
    train_saes    trains a block of layers, all learning rates in one pass over cached activations;
                  in mode `stream` its program is stream_saes, which runs the language model meanwhile

A job's outputs depend on its block of layers, so there is a rule for each.
"""

IS_STREAMED = study.features.activations.mode == "stream"
FROM_MODEL = (
    " --checkpoint {input.checkpoint:q} --corpus {input.corpus:q}"
    " --batch-size {resources.batch_size}"
    if IS_STREAMED
    else ""
)

for number, (block, models) in enumerate(models_by_block().items()):

    rule:
        name:
            numbered("train_saes", number)
        input:
            checkpoint=checkpoint_manifest if IS_STREAMED else [],
            corpus=study_corpus_manifest if IS_STREAMED else [],
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
                block_cost(stages_features.training_cost, block), "model", "sae"
            ),
            runtime=runtime_of(
                block_cost(stages_features.training_cost, block), "model", "sae"
            ),
            disk_mb=disk_of(
                block_cost(stages_features.training_cost, block), "model", "sae"
            ),
            study=study.name,
            batch_size=model_setting("batch_size"),
            device=model_setting("device"),
        params:
            script=program("stream_saes") if IS_STREAMED else program("train_saes"),
            code=code_of("stream_saes" if IS_STREAMED else "train_saes"),
            settings=settings_of(stages_features.training_settings, "model", "sae"),
            resume_dir=resume_dir,
        message:
            "Training {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --warm-start {input.warm_start:q}"
            " --resume-dir {params.resume_dir:q} --threads {threads} --device {resources.device}"
            f" --output {{output.weights:q}}{FROM_MODEL} > {{log:q}} 2>&1"
