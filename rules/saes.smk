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

IS_STREAMED = stages_features.is_streamed(study)
FROM_MODEL = (
    " --checkpoint {input.checkpoint:q} --corpus {input.corpus:q}"
    " --batch-size {resources.batch_size}"
    if IS_STREAMED
    else ""
)

for number, layers, models in numbered_rules("train_saes"):

    rule:
        name:
            f"train_saes{number}"
        input:
            checkpoint=made("fetch_checkpoint") if IS_STREAMED else [],
            corpus=study_corpus if IS_STREAMED else [],
            activations=activations_of(layers),
            warm_start=earlier_saes(layers),
        output:
            **outputs_of("train_saes", layers),
        log:
            log_of("train_saes", layers),
        benchmark:
            benchmark_of("train_saes", layers)
        wildcard_constraints:
            model=models,
        conda:
            "../envs/models.yaml"
        threads: threads_of("train_saes")
        resources:
            **resources_of("train_saes", layers),
        params:
            **params_of("train_saes"),
            resume_dir=resume_dir,
        message:
            "Training {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --warm-start {input.warm_start:q}"
            " --resume-dir {params.resume_dir:q} --threads {threads} --device {resources.device}"
            f" --output {{output.weights:q}}{FROM_MODEL} > {{log:q}} 2>&1"
