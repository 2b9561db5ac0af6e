"""
This part of the workflow writes the residual stream of every layer to disk, once for all analyses.

REQUIRED INPUTS:
    a checkpoint's manifest, the tokenised corpus
OUTPUTS:
    <results>/activations/{model}/{checkpoint}/{corpus}/layer_{layer}/manifest.json
        sizes and checksums of the shards beside it, which `glossogenesis purge` may delete
    <results>/embeddings/{model}/tokens.safetensors

STEPS:
    extract_activations   one forward pass of the model over the corpus, all layers
    extract_embeddings    the vectors of tokens at the model's last checkpoint

One job writes all layers of a checkpoint, so its outputs depend on the model's layers: there is one
rule for each set of layers, the first of which has the plain name.
"""

for number, (layers, models) in enumerate(models_by_layers().items()):

    rule:
        name:
            numbered("extract_activations", number)
        input:
            checkpoint=checkpoint_manifest,
            corpus=corpus_manifest,
        output:
            expand(
                "<results>/activations/{{model}}/{{checkpoint}}/{{corpus}}/layer_{layer}/manifest.json",
                layer=layers,
            ),
        log:
            "<logs>/extract_activations/{model}/{checkpoint}/{corpus}.log",
        benchmark:
            "<benchmarks>/extract_activations/{model}/{checkpoint}/{corpus}.tsv"
        wildcard_constraints:
            model=any_of(models),
        conda:
            "../envs/models.yaml"
        threads: model_setting("threads")
        resources:
            gpu=model_setting("gpus"),
            mem_mb=memory_of(stages_features.activations_cost, "model"),
            runtime=runtime_of(stages_features.activations_cost, "model"),
            disk_mb=disk_of(stages_features.activations_cost, "model"),
            study=study.name,
            batch_size=model_setting("batch_size"),
            device=model_setting("device"),
        params:
            script=program("extract_activations"),
            code=code_of("extract_activations"),
            settings=settings_of(stages_features.activations_settings, "model"),
            folder=lambda wildcards, output: Path(output[0]).parents[1],
        message:
            "Extracting activations of {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --checkpoint {input.checkpoint:q} --corpus {input.corpus:q}"
            " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
            " --output {params.folder:q} > {log:q} 2>&1"


rule extract_embeddings:
    input:
        checkpoint=last_checkpoint_manifest,
    output:
        embeddings="<results>/embeddings/{model}/tokens.safetensors",
    log:
        "<logs>/extract_embeddings/{model}.log",
    benchmark:
        "<benchmarks>/extract_embeddings/{model}.tsv"
    conda:
        "../envs/models.yaml"
    resources:
        mem_mb=memory_of(stages_features.embeddings_cost, "model"),
        runtime=runtime_of(stages_features.embeddings_cost, "model"),
        study=study.name,
    params:
        script=program("extract_embeddings"),
        code=code_of("extract_embeddings"),
        settings=settings_of(stages_features.embeddings_settings, "model"),
    message:
        "Extracting the vectors of tokens of {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --output {output.embeddings:q} > {log:q} 2>&1"
