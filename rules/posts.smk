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
        posts="<results>/posts/posts.parquet",
    log:
        "<logs>/prepare_posts.log",
    benchmark:
        "<benchmarks>/prepare_posts.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    resources:
        mem_mb=memory_of(stages_robustness.posts_cost),
        runtime=runtime_of(stages_robustness.posts_cost),
        disk_mb=disk_of(stages_robustness.posts_cost),
        study=study.name,
    params:
        script=program("prepare_posts"),
        code=code_of("prepare_posts"),
        settings=settings_of(stages_robustness.posts_settings),
    message:
        "Preparing posts"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --output {output.posts:q} > {log:q} 2>&1"


rule tokenise_posts:
    input:
        posts="<results>/posts/posts.parquet",
        checkpoint=posts_tokenizer,
    output:
        manifest="<results>/posts/{tokenizer}/manifest.json",
    log:
        "<logs>/tokenise_posts/{tokenizer}.log",
    benchmark:
        "<benchmarks>/tokenise_posts/{tokenizer}.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    resources:
        mem_mb=memory_of(stages_robustness.posts_cost, "tokenizer"),
        runtime=runtime_of(stages_robustness.posts_cost, "tokenizer"),
        disk_mb=disk_of(stages_robustness.posts_cost, "tokenizer"),
        study=study.name,
    params:
        script=program("tokenise_posts"),
        code=code_of("tokenise_posts"),
        settings=settings_of(stages_robustness.tokenised_posts_settings, "tokenizer"),
    message:
        "Cutting posts with the tokenizer of {wildcards.tokenizer}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --posts {input.posts:q}"
        " --output {output.manifest:q} > {log:q} 2>&1"


rule train_baseline:
    input:
        posts="<results>/posts/posts.parquet",
    output:
        predictions="<results>/classifiers/baseline/predictions.parquet",
    log:
        "<logs>/train_baseline.log",
    benchmark:
        "<benchmarks>/train_baseline.tsv"
    conda:
        "../envs/classifiers.yaml"
    resources:
        mem_mb=memory_of(stages_robustness.baseline_cost),
        runtime=runtime_of(stages_robustness.baseline_cost),
        study=study.name,
    params:
        script=program("train_baseline"),
        code=code_of("train_baseline"),
        settings=settings_of(stages_robustness.baseline_settings),
    message:
        "Training the baseline"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --posts {input.posts:q} --output {output.predictions:q} > {log:q} 2>&1"
