"""
This part of the workflow finds the components that a classifier decides with, and tests them.

REQUIRED INPUTS:
    classifiers, their predictions and states; the tokenised posts
OUTPUTS:
    <results>/pairs/{model}/{checkpoint}/seed_{seed}/pairs.parquet
    <results>/components/{model}/{checkpoint}/seed_{seed}/effects.parquet
    <results>/circuits/{model}/{checkpoint}/seed_{seed}/circuit.parquet        the components of each threshold
    <results>/circuits/{model}/{checkpoint}/seed_{seed}/ablations.parquet      right answers without the others

STEPS:
    select_pairs       pairs of posts that are alike but for their labels
    patch_components   effect of every attention and MLP output at the last position
    ablate_circuit     sufficiency and necessity of circuits, with random ones beside them
"""


rule select_pairs:
    input:
        predictions=every_classifier("predictions.parquet"),
        states=every_classifier("states.safetensors"),
    output:
        pairs="<results>/pairs/{model}/{checkpoint}/seed_{seed}/pairs.parquet",
    log:
        "<logs>/select_pairs/{model}/{checkpoint}/seed_{seed}.log",
    benchmark:
        "<benchmarks>/select_pairs/{model}/{checkpoint}/seed_{seed}.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/saes.yaml"
    resources:
        mem_mb=memory_of(stages_robustness.pairs_cost, "model"),
        runtime=runtime_of(stages_robustness.pairs_cost, "model"),
        study=study.name,
    params:
        script=program("select_pairs"),
        code=code_of("select_pairs"),
        settings=settings_of(stages_robustness.pair_settings, "model"),
    message:
        "Selecting pairs for {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --predictions {input.predictions:q} --states {input.states:q}"
        " --output {output.pairs:q} > {log:q} 2>&1"


rule patch_components:
    input:
        classifier=f"{CLASSIFIERS}/manifest.json",
        corpus=posts_manifest,
        pairs="<results>/pairs/{model}/{checkpoint}/seed_{seed}/pairs.parquet",
    output:
        effects="<results>/components/{model}/{checkpoint}/seed_{seed}/effects.parquet",
    log:
        "<logs>/patch_components/{model}/{checkpoint}/seed_{seed}.log",
    benchmark:
        "<benchmarks>/patch_components/{model}/{checkpoint}/seed_{seed}.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_robustness.components_cost, "model"),
        runtime=runtime_of(stages_robustness.components_cost, "model"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("patch_components"),
        code=code_of("patch_components"),
        settings=settings_of(stages_robustness.component_settings, "model"),
    message:
        "Patching components of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --corpus {input.corpus:q} --pairs {input.pairs:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.effects:q} > {log:q} 2>&1"


rule ablate_circuit:
    input:
        classifier=f"{CLASSIFIERS}/manifest.json",
        corpus=posts_manifest,
        posts="<results>/posts/posts.parquet",
        effects="<results>/components/{model}/{checkpoint}/seed_{seed}/effects.parquet",
    output:
        circuit="<results>/circuits/{model}/{checkpoint}/seed_{seed}/circuit.parquet",
        ablations="<results>/circuits/{model}/{checkpoint}/seed_{seed}/ablations.parquet",
    log:
        "<logs>/ablate_circuit/{model}/{checkpoint}/seed_{seed}.log",
    benchmark:
        "<benchmarks>/ablate_circuit/{model}/{checkpoint}/seed_{seed}.tsv"
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(stages_robustness.circuit_cost, "model"),
        runtime=runtime_of(stages_robustness.circuit_cost, "model"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("ablate_circuit"),
        code=code_of("ablate_circuit"),
        settings=settings_of(stages_robustness.circuit_settings, "model"),
    message:
        "Ablating circuits of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --corpus {input.corpus:q} --posts {input.posts:q}"
        " --effects {input.effects:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.ablations:q} --circuit {output.circuit:q} > {log:q} 2>&1"
