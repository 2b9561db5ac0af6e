"""
This part of the workflow brings labelled posts into place, and classifies them without a model.

REQUIRED INPUTS:
    the posts that `robustness.posts` names; the manifest of the first checkpoint of the model whose
    tokenizer is used
OUTPUTS:
    <results>/posts/posts.parquet                              what is kept, and its split
    <results>/posts/{tokenizer}/manifest.json                  one post a context, in shards beside it
    <results>/classifiers/baseline/predictions.parquet

STEPS:
    prepare_posts      reads or generates posts, removes ambiguous ones, and splits
    tokenise_posts     cuts posts into tokens
    train_baseline     TF-IDF and a linear support vector machine
"""


rule prepare_posts:
    input:
        posts=post_files,
    output:
        **outputs_of("prepare_posts"),
    log:
        log_of("prepare_posts"),
    benchmark:
        benchmark_of("prepare_posts")
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    resources:
        **resources_of("prepare_posts"),
    params:
        **params_of("prepare_posts"),
    message:
        "Preparing posts"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --output {output.posts:q} > {log:q} 2>&1"


rule tokenise_posts:
    input:
        posts=made("prepare_posts"),
        checkpoint=first_checkpoint,
    output:
        **outputs_of("tokenise_posts"),
    log:
        log_of("tokenise_posts"),
    benchmark:
        benchmark_of("tokenise_posts")
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    resources:
        **resources_of("tokenise_posts"),
    params:
        **params_of("tokenise_posts"),
    message:
        "Cutting posts with the tokenizer of {wildcards.tokenizer}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --posts {input.posts:q}"
        " --output {output.manifest:q} > {log:q} 2>&1"


rule train_baseline:
    input:
        posts=made("prepare_posts"),
    output:
        **outputs_of("train_baseline"),
    log:
        log_of("train_baseline"),
    benchmark:
        benchmark_of("train_baseline")
    conda:
        "../envs/classifiers.yaml"
    resources:
        **resources_of("train_baseline"),
    params:
        **params_of("train_baseline"),
    message:
        "Training the baseline"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --posts {input.posts:q} --output {output.predictions:q} > {log:q} 2>&1"
