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

for number, (layers, models) in enumerate(classifier_models_by_layers().items()):

    rule:
        name:
            numbered("extract_post_activations", number)
        input:
            classifier=f"{CLASSIFIERS}/manifest.json",
            corpus=posts_manifest,
        output:
            expand(
                "<results>/post_activations/{{model}}/{{checkpoint}}/seed_{{seed}}/layer_{layer}/manifest.json",
                layer=layers,
            ),
        log:
            "<logs>/extract_post_activations/{model}/{checkpoint}/seed_{seed}.log",
        benchmark:
            "<benchmarks>/extract_post_activations/{model}/{checkpoint}/seed_{seed}.tsv"
        wildcard_constraints:
            model=any_of(models),
        priority: LONGEST_CHAIN
        conda:
            "../envs/classifiers.yaml"
        threads: model_setting("threads")
        resources:
            gpu=model_setting("gpus"),
            mem_mb=memory_of(stages_robustness.post_activations_cost, "model"),
            runtime=runtime_of(stages_robustness.post_activations_cost, "model"),
            disk_mb=disk_of(stages_robustness.post_activations_cost, "model"),
            study=study.name,
            batch_size=model_setting("batch_size"),
            device=model_setting("device"),
        params:
            script=program("extract_post_activations"),
            code=code_of("extract_post_activations"),
            settings=settings_of(stages_robustness.post_activations_settings, "model"),
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
            numbered("train_post_saes", number)
        input:
            activations=expand(
                f"{POST_ACTIVATIONS}/layer_{{layer}}/manifest.json",
                layer=layers,
                allow_missing=True,
            ),
        output:
            weights=files_at(layers, POST_SAES, "sae_weights.safetensors"),
            beside=files_at(layers, POST_SAES, "cfg.json", "training.parquet"),
        log:
            "<logs>/train_post_saes/{model}/{checkpoint}/seed_{seed}/{sae}.log",
        benchmark:
            "<benchmarks>/train_post_saes/{model}/{checkpoint}/seed_{seed}/{sae}.tsv"
        wildcard_constraints:
            model=any_of(models),
        priority: LONGEST_CHAIN
        conda:
            "../envs/saes.yaml"
        threads: model_setting("threads")
        resources:
            gpu=model_setting("gpus"),
            mem_mb=memory_of(stages_robustness.post_training_cost, "model", "sae"),
            runtime=runtime_of(stages_robustness.post_training_cost, "model", "sae"),
            disk_mb=disk_of(stages_robustness.post_training_cost, "model", "sae"),
            study=study.name,
            device=model_setting("device"),
        params:
            script=program("train_saes"),
            code=code_of("train_saes"),
            settings=settings_of(stages_robustness.post_training_settings, "sae"),
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
            numbered("collect_label_features", number)
        input:
            activations=expand(
                f"{POST_ACTIVATIONS}/layer_{{layer}}/manifest.json",
                layer=layers,
                allow_missing=True,
            ),
            saes=files_at(layers, POST_SAES, "sae_weights.safetensors"),
            cfg=files_at(layers, POST_SAES, "cfg.json"),
            corpus=posts_manifest,
            posts="<results>/posts/posts.parquet",
        output:
            labels=files_at(layers, POST_FEATURES, "labels.parquet"),
            beside=files_at(
                layers,
                POST_FEATURES,
                "features.parquet",
                "cues.parquet",
                "posts.parquet",
            ),
        log:
            "<logs>/collect_label_features/{model}/{checkpoint}/seed_{seed}/{sae}.log",
        benchmark:
            "<benchmarks>/collect_label_features/{model}/{checkpoint}/seed_{seed}/{sae}.tsv"
        wildcard_constraints:
            model=any_of(models),
        priority: LONGEST_CHAIN
        conda:
            "../envs/saes.yaml"
        threads: model_setting("threads")
        resources:
            gpu=model_setting("gpus"),
            mem_mb=memory_of(stages_robustness.label_features_cost, "model", "sae"),
            runtime=runtime_of(stages_robustness.label_features_cost, "model", "sae"),
            study=study.name,
            device=model_setting("device"),
        params:
            script=program("collect_label_features"),
            code=code_of("collect_label_features"),
            settings=settings_of(stages_robustness.label_feature_settings),
        message:
            "Collecting features of labels of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --activations {input.activations:q} --saes {input.saes:q} --corpus {input.corpus:q}"
            " --posts {input.posts:q} --threads {threads} --device {resources.device}"
            " --output {output.labels:q} > {log:q} 2>&1"


rule knock_out_features:
    input:
        classifier=f"{CLASSIFIERS}/manifest.json",
        corpus=posts_manifest,
        posts="<results>/posts/posts.parquet",
        saes=files_of_layers(POST_SAES, "sae_weights.safetensors", "cfg.json"),
        features=files_of_layers(POST_FEATURES, "labels.parquet", "features.parquet"),
    output:
        knockout="<results>/knockout/{model}/{checkpoint}/seed_{seed}/{sae}.parquet",
    log:
        "<logs>/knock_out_features/{model}/{checkpoint}/seed_{seed}/{sae}.log",
    benchmark:
        "<benchmarks>/knock_out_features/{model}/{checkpoint}/seed_{seed}/{sae}.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_robustness.knockout_cost, "model", "sae"),
        runtime=runtime_of(stages_robustness.knockout_cost, "model", "sae"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("knock_out_features"),
        code=code_of("knock_out_features"),
        settings=settings_of(stages_robustness.knockout_settings, "model", "sae"),
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
