"""
This part of the workflow trains autoencoders on classifiers and asks what their features stand for.

REQUIRED INPUTS:
    classifiers; the tokenised posts
OUTPUTS:
    <results>/post_activations/{model}/{checkpoint}/seed_{seed}/layer_{layer}/manifest.json
        sizes and checksums of the shards beside it, which `glossogenesis purge` may delete
    <results>/post_saes/{model}/{checkpoint}/seed_{seed}/layer_{layer}/{sae}/       cfg.json, sae_weights.safetensors,
                                                                        training.parquet
    <results>/post_features/{model}/{checkpoint}/seed_{seed}/layer_{layer}/{sae}/   labels.parquet, features.parquet,
                                                                        cues.parquet, posts.parquet
    <results>/knockout/{model}/{checkpoint}/seed_{seed}/{sae}.parquet

STEPS:
    extract_post_activations   one forward pass of the classifier over all posts, all layers
    train_post_saes            the program train_saes on all layers of a classifier
    collect_label_features     Cohen's d of every feature and label, and the tokens of top features
    knock_out_features         right answers without a label's top features, and without others

A job of the first three does all layers of a classifier, so there is a rule for each set of layers.
"""

for number, layers, models in numbered_rules("extract_post_activations"):

    rule:
        name:
            f"extract_post_activations{number}"
        input:
            classifier=made("finetune_classifier"),
            corpus=tokenised_posts,
        output:
            **outputs_of("extract_post_activations", layers),
        log:
            log_of("extract_post_activations", layers),
        benchmark:
            benchmark_of("extract_post_activations", layers)
        wildcard_constraints:
            model=models,
        priority: LONGEST_CHAIN
        conda:
            "../envs/classifiers.yaml"
        threads: threads_of("extract_post_activations")
        resources:
            **resources_of("extract_post_activations", layers),
        params:
            **params_of("extract_post_activations"),
            folder=lambda wildcards, output: Path(output[0]).parents[1],
        message:
            "Extracting activations of the classifier on {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --classifier {input.classifier:q} --corpus {input.corpus:q}"
            " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
            " --output {params.folder:q} > {log:q} 2>&1"

    rule:
        name:
            f"train_post_saes{number}"
        input:
            activations=made("extract_post_activations", layers=layers),
        output:
            **outputs_of("train_post_saes", layers),
        log:
            log_of("train_post_saes", layers),
        benchmark:
            benchmark_of("train_post_saes", layers)
        wildcard_constraints:
            model=models,
        priority: LONGEST_CHAIN
        conda:
            "../envs/saes.yaml"
        threads: threads_of("train_post_saes")
        resources:
            **resources_of("train_post_saes", layers),
        params:
            **params_of("train_post_saes"),
            resume_dir=resume_dir,
        message:
            "Training {wildcards.sae} on the classifier of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q}"
            " --resume-dir {params.resume_dir:q} --threads {threads} --device {resources.device}"
            " --output {output.weights:q} > {log:q} 2>&1"

    rule:
        name:
            f"collect_label_features{number}"
        input:
            activations=made("extract_post_activations", layers=layers),
            saes=made("train_post_saes", "weights", layers),
            cfg=made("train_post_saes", "cfg", layers),
            corpus=tokenised_posts,
            posts=made("prepare_posts"),
        output:
            **outputs_of("collect_label_features", layers),
        log:
            log_of("collect_label_features", layers),
        benchmark:
            benchmark_of("collect_label_features", layers)
        wildcard_constraints:
            model=models,
        priority: LONGEST_CHAIN
        conda:
            "../envs/saes.yaml"
        threads: threads_of("collect_label_features")
        resources:
            **resources_of("collect_label_features", layers),
        params:
            **params_of("collect_label_features"),
        message:
            "Collecting features of labels of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --saes {input.saes:q} --corpus {input.corpus:q}"
            " --posts {input.posts:q} --threads {threads} --device {resources.device}"
            " --output {output.labels:q} > {log:q} 2>&1"


rule knock_out_features:
    input:
        classifier=made("finetune_classifier"),
        corpus=tokenised_posts,
        posts=made("prepare_posts"),
        saes=of_all_layers("train_post_saes", "weights", "cfg"),
        features=of_all_layers("collect_label_features", "labels", "features"),
    output:
        **outputs_of("knock_out_features"),
    log:
        log_of("knock_out_features"),
    benchmark:
        benchmark_of("knock_out_features")
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: threads_of("knock_out_features")
    resources:
        **resources_of("knock_out_features"),
    params:
        **params_of("knock_out_features"),
        saes=lambda wildcards, input: layer_folder(input.saes),
        features=lambda wildcards, input: layer_folder(input.features),
    message:
        "Knocking out features of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --corpus {input.corpus:q} --posts {input.posts:q}"
        " --saes {params.saes:q} --features {params.features:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.knockout:q} > {log:q} 2>&1"
