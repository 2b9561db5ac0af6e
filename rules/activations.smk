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

for number, layers, models in numbered_rules("extract_activations"):

    rule:
        name:
            f"extract_activations{number}"
        input:
            checkpoint=made("fetch_checkpoint"),
            corpus=study_corpus,
        output:
            **outputs_of("extract_activations", layers),
        log:
            log_of("extract_activations", layers),
        benchmark:
            benchmark_of("extract_activations", layers)
        wildcard_constraints:
            model=models,
        conda:
            "../envs/models.yaml"
        threads: threads_of("extract_activations")
        resources:
            **resources_of("extract_activations", layers),
        params:
            **params_of("extract_activations"),
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
        checkpoint=last_checkpoint,
    output:
        **outputs_of("extract_embeddings"),
    log:
        log_of("extract_embeddings"),
    benchmark:
        benchmark_of("extract_embeddings")
    conda:
        "../envs/models.yaml"
    resources:
        **resources_of("extract_embeddings"),
    params:
        **params_of("extract_embeddings"),
    message:
        "Extracting the vectors of tokens of {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --output {output.embeddings:q} > {log:q} 2>&1"
