"""
This part of the workflow says what features are: when they fire, in which language, on which meaning.

REQUIRED INPUTS:
    trained autoencoders, held-out activations, the corpus, the vectors of tokens
OUTPUTS:
    <results>/features/{model}/{checkpoint}/layer_{layer}/{sae}/    statistics.parquet, examples.parquet,
                                                                    sensitivity.parquet
    <results>/tracking/{model}/{checkpoint}/layer_{layer}/{sae}/matches.parquet

STEPS:
    collect_features   one pass over the held-out activations: statistics, examples, labels
    match_features     which features are those of the checkpoint before

One job does a block of layers, `layers_per_job` of the model: where a layer takes seconds, starting a
job for each takes longer. A job's outputs depend on its block, so there is a rule for each.
"""

for number, (block, models) in enumerate(models_by_block().items()):

    rule:
        name:
            numbered("collect_features", number)
        input:
            activations=activations_of(block),
            corpus=study_corpus_manifest,
            saes=files_of(block, "sae", "sae_weights.safetensors"),
            embeddings="<results>/embeddings/{model}/tokens.safetensors",
            own_vectors=own_vectors,
        output:
            statistics=files_of(block, "features", "statistics.parquet"),
            examples=files_of(block, "features", "examples.parquet"),
            sensitivity=files_of(block, "features", "sensitivity.parquet"),
        log:
            f"<logs>/collect_features/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.log",
        benchmark:
            f"<benchmarks>/collect_features/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.tsv"
        wildcard_constraints:
            model=any_of(models),
        conda:
            "../envs/saes.yaml"
        threads: model_setting("threads")
        resources:
            gpu=model_setting("gpus"),
            mem_mb=memory_of(
                block_cost(stages_features.collection_cost, block), "model", "sae"
            ),
            runtime=runtime_of(
                block_cost(stages_features.collection_cost, block), "model", "sae"
            ),
            disk_mb=disk_of(
                block_cost(stages_features.collection_cost, block), "model", "sae"
            ),
            study=study.name,
            device=model_setting("device"),
        params:
            script=program("collect_features"),
            code=code_of("collect_features"),
            settings=settings_of(stages_features.collection_settings),
        message:
            "Collecting features of {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --corpus {input.corpus:q} --saes {input.saes:q}"
            " --embeddings {input.embeddings:q} --own-embedding {input.own_vectors:q}"
            " --threads {threads} --device {resources.device}"
            " --output {output.statistics:q} --examples {output.examples:q}"
            " --sensitivity-tables {output.sensitivity:q} > {log:q} 2>&1"

    rule:
        name:
            numbered("match_features", number)
        input:
            saes=files_of(block, "sae", "sae_weights.safetensors"),
            statistics=files_of(block, "features", "statistics.parquet"),
            earlier_saes=earlier_files_of(block, "sae", "sae_weights.safetensors"),
            earlier_statistics=earlier_files_of(block, "features", "statistics.parquet"),
        output:
            files_of(block, "tracking", "matches.parquet"),
        log:
            f"<logs>/match_features/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.log",
        benchmark:
            f"<benchmarks>/match_features/{{model}}/{{checkpoint}}/from_layer_{block[0]}/{{sae}}.tsv"
        wildcard_constraints:
            model=any_of(models),
        conda:
            "../envs/saes.yaml"
        resources:
            mem_mb=memory_of(
                block_cost(stages_features.matching_cost, block), "model", "sae"
            ),
            runtime=runtime_of(
                block_cost(stages_features.matching_cost, block), "model", "sae"
            ),
            study=study.name,
        params:
            script=program("match_features"),
            code=code_of("match_features"),
            settings=settings_of(stages_features.matching_settings),
        message:
            "Matching features of {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --saes {input.saes:q} --statistics {input.statistics:q}"
            " --earlier-saes {input.earlier_saes:q}"
            " --earlier-statistics {input.earlier_statistics:q}"
            " --output {output:q} > {log:q} 2>&1"
