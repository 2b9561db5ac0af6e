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
        source=made("fetch_checkpoint", checkpoint=INJECTED["checkpoint"]),
        target=made("fetch_checkpoint"),
        corpus=study_corpus,
        saes=injected_files("train_saes"),
        statistics=injected_files("collect_features"),
        prompts=injection_prompts,
        lexicon=injection_lexicon,
        parallel=injection_parallel_text,
    output:
        **outputs_of("inject_features"),
    log:
        log_of("inject_features"),
    benchmark:
        benchmark_of("inject_features")
    conda:
        "../envs/models.yaml"
    threads: threads_of("inject_features")
    resources:
        **resources_of("inject_features"),
    params:
        **params_of("inject_features"),
        saes=lambda wildcards, input: Path(input.saes[0]).parents[2],
        statistics=lambda wildcards, input: Path(input.statistics[0]).parents[2],
        sae=INJECTED["sae"],
    message:
        "Injecting features into {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --source {input.source:q} --target {input.target:q} --corpus {input.corpus:q}"
        " --saes {params.saes:q} --sae {params.sae:q} --statistics {params.statistics:q}"
        " --prompts {input.prompts:q} --lexicon {input.lexicon:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.perplexity:q} --translation-output {output.translation:q} > {log:q} 2>&1"
