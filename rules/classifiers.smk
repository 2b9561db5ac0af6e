"""
This part of the workflow fine-tunes classifiers and lets them classify.

REQUIRED INPUTS:
    a checkpoint's manifest; the tokenised posts
OUTPUTS:
    <results>/classifiers/{model}/{checkpoint}/seed_{seed}/manifest.json         the classifier, its weights beside it
    <results>/classifiers/{model}/{checkpoint}/seed_{seed}/training.parquet      metrics of every epoch
    <results>/classifiers/{model}/{checkpoint}/seed_{seed}/predictions.parquet
    <results>/classifiers/{model}/{checkpoint}/seed_{seed}/states.safetensors

STEPS:
    finetune_classifier   a classification head, trained with the whole model
    classify_posts        held-out posts: predictions, and mean-pooled final states
"""


rule finetune_classifier:
    input:
        checkpoint=made("fetch_checkpoint"),
        corpus=tokenised_posts,
        posts=made("prepare_posts"),
    output:
        **outputs_of("finetune_classifier"),
    log:
        log_of("finetune_classifier"),
    benchmark:
        benchmark_of("finetune_classifier")
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: threads_of("finetune_classifier")
    resources:
        **resources_of("finetune_classifier"),
    params:
        **params_of("finetune_classifier"),
        resume_dir=resume_dir,
    message:
        "Fine-tuning a classifier on {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --corpus {input.corpus:q} --posts {input.posts:q}"
        " --resume-dir {params.resume_dir:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.manifest:q} --training {output.training:q} > {log:q} 2>&1"


rule classify_posts:
    input:
        classifier=made("finetune_classifier"),
        corpus=tokenised_posts,
        posts=made("prepare_posts"),
    output:
        **outputs_of("classify_posts"),
    log:
        log_of("classify_posts"),
    benchmark:
        benchmark_of("classify_posts")
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: threads_of("classify_posts")
    resources:
        **resources_of("classify_posts"),
    params:
        **params_of("classify_posts"),
    message:
        "Classifying posts with {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --corpus {input.corpus:q} --posts {input.posts:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.predictions:q} --states {output.states:q} > {log:q} 2>&1"
