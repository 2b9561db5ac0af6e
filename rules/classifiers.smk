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
        checkpoint=checkpoint_manifest,
        corpus=posts_manifest,
        posts="<results>/posts/posts.parquet",
    output:
        manifest=f"{CLASSIFIERS}/manifest.json",
        training=f"{CLASSIFIERS}/training.parquet",
    log:
        "<logs>/finetune_classifier/{model}/{checkpoint}/seed_{seed}.log",
    benchmark:
        "<benchmarks>/finetune_classifier/{model}/{checkpoint}/seed_{seed}.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_robustness.finetuning_cost, "model"),
        runtime=runtime_of(stages_robustness.finetuning_cost, "model"),
        disk_mb=disk_of(stages_robustness.finetuning_cost, "model"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("finetune_classifier"),
        code=code_of("finetune_classifier"),
        settings=settings_of(stages_robustness.classifier_settings, "model", "seed"),
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
        classifier=f"{CLASSIFIERS}/manifest.json",
        corpus=posts_manifest,
        posts="<results>/posts/posts.parquet",
    output:
        predictions=f"{CLASSIFIERS}/predictions.parquet",
        states=f"{CLASSIFIERS}/states.safetensors",
    log:
        "<logs>/classify_posts/{model}/{checkpoint}/seed_{seed}.log",
    benchmark:
        "<benchmarks>/classify_posts/{model}/{checkpoint}/seed_{seed}.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_robustness.classification_cost, "model"),
        runtime=runtime_of(stages_robustness.classification_cost, "model"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("classify_posts"),
        code=code_of("classify_posts"),
        settings=settings_of(stages_robustness.classification_settings, "model"),
    message:
        "Classifying posts with {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --corpus {input.corpus:q} --posts {input.posts:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.predictions:q} --states {output.states:q} > {log:q} 2>&1"
