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
"""

FEATURE_FOLDER = "<results>/features/{model}/{checkpoint}/layer_{layer}/{sae}"


rule collect_features:
    input:
        activations=layer_activations,
        corpus=study_corpus_manifest,
        sae=f"{SAE_FOLDER}/sae_weights.safetensors",
        cfg=f"{SAE_FOLDER}/cfg.json",
        embeddings="<results>/embeddings/{model}/tokens.safetensors",
        own_vectors=own_vectors,
    output:
        statistics=f"{FEATURE_FOLDER}/statistics.parquet",
        examples=f"{FEATURE_FOLDER}/examples.parquet",
        sensitivity=f"{FEATURE_FOLDER}/sensitivity.parquet",
    log:
        "<logs>/collect_features/{model}/{checkpoint}/layer_{layer}/{sae}.log",
    benchmark:
        "<benchmarks>/collect_features/{model}/{checkpoint}/layer_{layer}/{sae}.tsv"
    conda:
        "../envs/saes.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(feature_costs.collection_cost, "model", "sae"),
        runtime=runtime_of(feature_costs.collection_cost, "model", "sae"),
        disk_mb=disk_of(feature_costs.collection_cost, "model", "sae"),
        study=study.name,
        device=model_setting("device"),
    params:
        script=program("collect_features"),
        code=code_of("collect_features"),
        settings=settings_of(feature_settings.collection_settings),
    message:
        "Collecting features of {wildcards.sae} on {wildcards.model} {wildcards.checkpoint} layer {wildcards.layer}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --activations {input.activations:q} --corpus {input.corpus:q} --sae {input.sae:q}"
        " --embeddings {input.embeddings:q} --own-embedding {input.own_vectors:q}"
        " --threads {threads} --device {resources.device}"
        " --output {output.statistics:q} --examples {output.examples:q}"
        " --sensitivity-table {output.sensitivity:q} > {log:q} 2>&1"


rule match_features:
    input:
        sae=f"{SAE_FOLDER}/sae_weights.safetensors",
        statistics=f"{FEATURE_FOLDER}/statistics.parquet",
        earlier_sae=earlier_weights,
        earlier_statistics=earlier_statistics,
    output:
        matches="<results>/tracking/{model}/{checkpoint}/layer_{layer}/{sae}/matches.parquet",
    log:
        "<logs>/match_features/{model}/{checkpoint}/layer_{layer}/{sae}.log",
    benchmark:
        "<benchmarks>/match_features/{model}/{checkpoint}/layer_{layer}/{sae}.tsv"
    conda:
        "../envs/saes.yaml"
    resources:
        mem_mb=memory_of(feature_costs.matching_cost, "model", "sae"),
        runtime=runtime_of(feature_costs.matching_cost, "model", "sae"),
        study=study.name,
    params:
        script=program("match_features"),
        code=code_of("match_features"),
        settings=settings_of(feature_settings.matching_settings),
    message:
        "Matching features of {wildcards.sae} on {wildcards.model} {wildcards.checkpoint} layer {wildcards.layer}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --sae {input.sae:q} --statistics {input.statistics:q}"
        " --earlier-sae {input.earlier_sae:q} --earlier-statistics {input.earlier_statistics:q}"
        " --output {output.matches:q} > {log:q} 2>&1"
