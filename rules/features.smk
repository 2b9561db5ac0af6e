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

for number, layers, models in numbered_rules("collect_features"):

    rule:
        name:
            f"collect_features{number}"
        input:
            activations=activations_of(layers),
            corpus=study_corpus,
            saes=made("train_saes", "weights", layers),
            embeddings=made("extract_embeddings"),
            own_vectors=own_vectors,
        output:
            **outputs_of("collect_features", layers),
        log:
            log_of("collect_features", layers),
        benchmark:
            benchmark_of("collect_features", layers)
        wildcard_constraints:
            model=models,
        conda:
            "../envs/saes.yaml"
        threads: threads_of("collect_features")
        resources:
            **resources_of("collect_features", layers),
        params:
            **params_of("collect_features"),
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
            f"match_features{number}"
        input:
            saes=made("train_saes", "weights", layers),
            statistics=made("collect_features", "statistics", layers),
            earlier_saes=made_earlier("train_saes", layers),
            earlier_statistics=made_earlier("collect_features", layers),
        output:
            **outputs_of("match_features", layers),
        log:
            log_of("match_features", layers),
        benchmark:
            benchmark_of("match_features", layers)
        wildcard_constraints:
            model=models,
        conda:
            "../envs/saes.yaml"
        resources:
            **resources_of("match_features", layers),
        params:
            **params_of("match_features"),
        message:
            "Matching features of {wildcards.sae} on {wildcards.model} {wildcards.checkpoint}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --saes {input.saes:q} --statistics {input.statistics:q}"
            " --earlier-saes {input.earlier_saes:q}"
            " --earlier-statistics {input.earlier_statistics:q}"
            " --output {output:q} > {log:q} 2>&1"
