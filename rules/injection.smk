"""
This part of the workflow adds features of a later checkpoint to an earlier one.

REQUIRED INPUTS:
    both checkpoints; autoencoders and statistics of the later one; the corpus; prompts or parallel
    text where something is translated
OUTPUTS:
    <results>/injection/{model}/{checkpoint}/perplexity.parquet      {checkpoint} is the earlier one
    <results>/injection/{model}/{checkpoint}/translation.parquet

STEPS:
    inject_features    perplexity and translation with each group of features, and with controls
"""


rule inject_features:
    input:
        source=injection_source_manifest,
        target=checkpoint_manifest,
        corpus=study_corpus_manifest,
        saes=injected_files("sae", "sae_weights.safetensors"),
        statistics=injected_files("features", "statistics.parquet"),
        prompts=injection_prompts,
        lexicon=injection_lexicon,
        parallel=injection_parallel_text,
    output:
        perplexity="<results>/injection/{model}/{checkpoint}/perplexity.parquet",
        translation="<results>/injection/{model}/{checkpoint}/translation.parquet",
    log:
        "<logs>/inject_features/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/inject_features/{model}/{checkpoint}.tsv"
    conda:
        "../envs/models.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_features.injection_cost),
        runtime=runtime_of(stages_features.injection_cost),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("inject_features"),
        code=code_of("inject_features"),
        settings=settings_of(stages_features.injection_settings),
        saes=lambda wildcards, input: Path(input.saes[0]).parents[2],
        statistics=lambda wildcards, input: Path(input.statistics[0]).parents[2],
        sae=stages_features.injection_sae(study),
    message:
        "Injecting features into {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --source {input.source:q} --target {input.target:q} --corpus {input.corpus:q}"
        " --saes {params.saes:q} --sae {params.sae:q} --statistics {params.statistics:q}"
        " --prompts {input.prompts:q} --lexicon {input.lexicon:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.perplexity:q} --translation-output {output.translation:q} > {log:q} 2>&1"
